"""How the images are made: a cache keyed by what goes in, a base, wheels, and buildah or docker."""
