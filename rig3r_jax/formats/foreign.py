"""What a file that is none of the expected kind really is, by its first bytes, and what to do about it."""

import re

HEAD = 4096  # bytes of a file that tell its kind

_LFS = b"version https://git-lfs"
_WEB_PAGE = re.compile(rb"[\xef\xbb\xbf\s]*<(!doctype html|html|head|body)\b", re.IGNORECASE)
_PACKED = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR",
    b"\x28\xb5\x2f\xfd": "Zstandard",
}  # fmt: skip
_KINDS = {
    b"\x89HDF": "an HDF5 file", b"\x93NUMPY": "a NumPy array (.npy)", b"GGUF": "a GGUF file", b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive", b"\x80\x02": "a bare pickle", b"\x80\x03": "a bare pickle",
    b"\x80\x04": "a bare pickle", b"\x80\x05": "a bare pickle", b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image", b"\xff\x0a": "a JPEG XL image",
}  # fmt: skip
_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")


def is_in_place_of_text(head: bytes) -> bool:
    """Whether a file is text only in that it stands in the place of another: a Git LFS pointer or a web page."""
    return head.startswith(_LFS) or bool(_WEB_PAGE.match(head))


def describe(head: bytes) -> str:
    """`is a web page 'Virus scan warning' ...; fetch it by its download link`: kind and remedy of a file in one line.

    Args:
        head: its first HEAD bytes, or all of them.
    """
    if not head:
        return "is empty: a download that failed or a full disk; fetch it again"
    if head.startswith(_LFS):
        size = re.search(rb"^size (\d+)", head, re.MULTILINE)
        of = f" of {int(size[1]):,} bytes" if size else ""
        return f"is a Git LFS pointer to a file{of}, not that file; run `git lfs pull` in its repository"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if _WEB_PAGE.match(head):
        title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title", head, re.IGNORECASE | re.DOTALL)
        named = f" {title[1].decode(errors='replace')[:80]!r}" if title else ""
        return f"is a web page{named}, saved in place of the file; fetch the file by its download link, logged in"
    for start, packer in _PACKED.items():
        if head.startswith(start):
            return f"is packed by {packer}; unpack it and give what is in it"
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it and give what is in it"
    if head[4:12] in _HEIC:
        return "is a HEIC image, which is not read; convert it to JPEG"
    for start, kind in _KINDS.items():
        if head.startswith(start):
            return f"is {kind}; give a file of the right kind"
    if not head.strip(b"\0"):
        return "begins with zeros: a download that did not finish, or a damaged disk; fetch it again"
    if text and all(byte >= 32 or byte in b"\t\r\n" for byte in text):
        line = text.splitlines()[0].decode(errors="replace")
        return f"is text that begins with {line[:60]!r}; fetch the file again"
    return f"begins with {head[:8]!r}, which is of no known kind; fetch the file again"
