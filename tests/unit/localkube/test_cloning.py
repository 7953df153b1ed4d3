"""Names and folders by which layers are cloned."""

import hashlib

import pytest

from localkube import cloning
from localkube.errors import LocalKubeError


def test_chain_ids_name_a_layer_with_all_below_it() -> None:
    first, second, third = (f"sha256:{letter * 64}" for letter in "abc")

    chains = cloning.chain_ids([first, second, third])

    def joined(below: str, own: str) -> str:
        return f"sha256:{hashlib.sha256(f'{below} {own}'.encode()).hexdigest()}"

    assert chains == [first, joined(first, second), joined(joined(first, second), third)]


def test_folders_of_a_stack_are_told_lowest_first() -> None:
    said = "mount -t overlay overlay /nowhere -o index=off,lowerdir=/s/3/fs:/s/2/fs:/s/1/fs\n"

    assert cloning.lower_folders(said) == ["/s/1/fs", "/s/2/fs", "/s/3/fs"]


def test_a_single_layer_is_a_bind_mount() -> None:
    assert cloning.lower_folders("k\nmount -t bind /s/1/fs /nowhere -o ro,rbind") == ["/s/1/fs"]


def test_anything_else_is_refused() -> None:
    with pytest.raises(LocalKubeError, match="no folders"):
        cloning.lower_folders("mount -t zfs a b")
