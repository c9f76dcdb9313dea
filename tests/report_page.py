"""The report's page, taken apart: its elements and texts, and the responses that are packed in it."""

import base64
import gzip
import json
from html.parser import HTMLParser

import numpy as np

VOID = {"meta", "br", "link", "img", "hr", "input", "col"}


class Page(HTMLParser):
    """Elements, attributes, texts and scripts; refuses a page whose tags do not nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.texts, self.scripts, self.heads = [], [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)
            if self.open[-1] in ("h1", "h2", "h3"):
                self.heads.append(data)

    @property
    def words(self):
        return " ".join("".join(self.texts).split())

    @property
    def responses(self):
        return Packed(self.scripts[0])


class Packed:
    """What payload.py packed, by other means than the page's script."""

    def __init__(self, text):
        whole = gzip.decompress(base64.b64decode(text))
        size = int.from_bytes(whole[:4], "little")
        self.header = json.loads(whole[4 : 4 + size])
        self.body = np.frombuffer(whole[4 + size :], dtype=np.uint8)
        self.ends = np.cumsum(self.header["kept"])
        self.total = int(self.ends[-1])

    def plane(self, i):
        return self.body[i * self.total : (i + 1) * self.total].astype(np.uint32)

    def tokens(self, response):
        ids = self.plane(0) | self.plane(1) << 8 | self.plane(2) << 16
        return [self.header["vocabulary"][i] for i in self.split(ids)[response]]

    def flags(self, response):
        return self.split(self.plane(3))[response]

    def split(self, x):
        return np.split(x, self.ends[:-1])

    def column(self, said):
        """One array a response."""
        if "rows" in said:
            return [np.full(n, x) for x, n in zip(said["rows"], self.header["kept"], strict=True)]
        halves = (self.plane(4 + 2 * said["at"]) | self.plane(5 + 2 * said["at"]) << 8).astype("<u2").view("<f2")
        roots = halves.astype(np.float64)
        return self.split(roots * np.abs(roots) * said["scale"])

    def lane(self, name):
        return next(lane for lane in self.header["lanes"] if lane["name"] == name)
