// Package hashring owns consistent hashing as twemproxy does it: the ketama continuum with
// weights, the modula distribution, and the twelve key hashes, bit for bit. So a pool can
// move from twemproxy to keyway without moving a key. Where twemproxy departs from a
// hash's definition (signed characters, a 64-bit FNV computed in 32 bits), this package
// does the same.
package hashring
