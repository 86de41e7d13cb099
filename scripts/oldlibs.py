"""Makes a program for Linux on x86_64 run with older C and C++ libraries than it was built with.

A program names, for each function that it takes from a library, the release of the library
that brought this variant of the function. This changes, in place, the releases given by name to
the library's first one, and __isoc23_strtol and its like, which glibc 2.38 brought, to strtol
and its like. These differ only in reading binary numbers and in an error of fmod.

Usage: oldlibs.py PROGRAM RELEASE...
"""

import struct
import sys

DYNAMIC_SYMBOLS, VERSIONS_NEEDED = 11, 0x6FFFFFFE  # types of sections
SYMBOL, SECTION = 24, 64  # their sizes
NEW = "__isoc23_"


def elf_hash(name):
    h = 0
    for c in name:
        h = (h << 4) + c
        h = (h ^ (h & 0xF0000000) >> 24) & 0x0FFFFFFF
    return h


class Program:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.b = bytearray(f.read())
        start, count = self.read("<Q", 40)[0], self.read("<H", 60)[0]
        self.sections = [self.read("<IIQQQQIIQQ", start + i * SECTION) for i in range(count)]
        _, _, _, _, self.symbols, self.size, link, *_ = self.section(DYNAMIC_SYMBOLS)
        self.names = self.sections[link][4]

    def read(self, form, at):
        return struct.unpack_from(form, self.b, at)

    def section(self, kind):
        return next(s for s in self.sections if s[1] == kind)

    def name(self, offset):
        at = self.names + offset
        return self.b[at : self.b.index(b"\0", at)].decode()

    def needed(self):
        """Yields, for each release needed of a library, where the program names it."""
        at = self.section(VERSIONS_NEEDED)[4]
        while True:
            _, _, _, first, following = self.read("<HHIII", at)
            entry = at + first
            while True:
                _, _, _, name, more = self.read("<IHHII", entry)
                yield entry, name, self.name(name)
                if not more:
                    break
                entry += more
            if not following:
                return
            at += following

    def need_first_release(self, releases):
        for entry, offset, name in list(self.needed()):
            if name not in releases:
                continue
            first = "GLIBC_2.2.5" if name.startswith("GLIBC_") else "GLIBCXX_3.4"
            same = [o for _, o, n in self.needed() if n == first]
            if not same:  # cut the name short
                self.b[self.names + offset + len(first)] = 0
                same = [offset]
            struct.pack_into("<I", self.b, entry, elf_hash(first.encode()))
            struct.pack_into("<I", self.b, entry + 8, same[0])

    def rename(self):
        for at in range(self.symbols, self.symbols + self.size, SYMBOL):
            (offset,) = self.read("<I", at)
            if self.name(offset).startswith(NEW):
                struct.pack_into("<I", self.b, at, offset + len(NEW))


program = Program(sys.argv[1])
program.need_first_release(sys.argv[2:])
program.rename()
with open(sys.argv[1], "wb") as f:
    f.write(program.b)
