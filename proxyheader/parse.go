package proxyheader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

var (
	// ErrMore says that the header is not complete yet.
	ErrMore = errors.New("the header is not complete")
	// ErrNone says that the bytes begin no header.
	ErrNone = errors.New("no PROXY protocol header")
	// ErrBroken says that the bytes begin a header, but break the protocol.
	ErrBroken = errors.New("a broken PROXY protocol header")
)

const (
	// textStart begins a header of version 1, which is a line of text.
	textStart = "PROXY "
	// maxText is the longest header of version 1, with its CRLF.
	maxText = 107
	// signature begins a header of version 2, which is binary.
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	// fixed is the length of the part of version 2 that every header has.
	fixed = len(signature) + 4

	// MaxLen is the length of the longest header.
	MaxLen = fixed + 1<<16 - 1
)

// Parse parses the header at the start of b, and returns the client's address and the length of
// the header. The address is not valid if the header does not say where the client is: a balancer
// connects for itself, such as for a health check, or the client uses no TCP over IP.
//
// Parse returns ErrMore as long as b can be the start of a header.
func Parse(b []byte) (client netip.AddrPort, length int, err error) {
	switch {
	case begins(b, signature):
		return parseBinary(b)
	case begins(b, textStart):
		return parseText(b)
	case len(b) < len(signature) && strings.HasPrefix(signature, string(b)),
		len(b) < len(textStart) && strings.HasPrefix(textStart, string(b)):
		return client, 0, ErrMore
	}
	return client, 0, ErrNone
}

// Begins reports whether b begins with a header of either version, complete or not.
func Begins(b []byte) bool {
	return begins(b, signature) || begins(b, textStart+"TCP") || begins(b, textStart+"UNKNOWN")
}

func begins(b []byte, with string) bool { return len(b) >= len(with) && string(b[:len(with)]) == with }

// parseText parses version 1: PROXY TCP4 SOURCE DESTINATION PORT PORT.
func parseText(b []byte) (client netip.AddrPort, length int, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxText)], '\n')
	switch {
	case end < 0 && len(b) < maxText:
		return client, 0, ErrMore
	case end < 0 || b[end-1] != '\r':
		return client, 0, ErrBroken
	}
	fields := strings.Split(string(b[len(textStart):end-1]), " ")
	length = end + 1
	if fields[0] == "UNKNOWN" {
		return client, length, nil // whatever follows must be ignored
	}
	if len(fields) != 5 || fields[0] != "TCP4" && fields[0] != "TCP6" {
		return client, 0, ErrBroken
	}
	source, ok1 := textAddr(fields[1], fields[3], fields[0] == "TCP6")
	_, ok2 := textAddr(fields[2], fields[4], fields[0] == "TCP6")
	if !ok1 || !ok2 {
		return client, 0, ErrBroken
	}
	return source, length, nil
}

// textAddr parses an address and a port.
func textAddr(host, port string, isIPv6 bool) (netip.AddrPort, bool) {
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" || addr.Is6() != isIPv6 {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), true
}

// The commands and families of version 2.
const (
	version2  = 0x20
	forItself = 0 // LOCAL: the balancer has no client
	forClient = 1 // PROXY

	tcpOverIPv4 = 0x11
	tcpOverIPv6 = 0x21
)

// parseBinary parses version 2. What follows the addresses is skipped.
func parseBinary(b []byte) (client netip.AddrPort, length int, err error) {
	if len(b) <= len(signature) {
		return client, 0, ErrMore
	}
	command := b[len(signature)] - version2
	if command != forItself && command != forClient {
		return client, 0, ErrBroken
	}
	if len(b) < fixed {
		return client, 0, ErrMore
	}
	family := b[fixed-3]
	length = fixed + int(binary.BigEndian.Uint16(b[fixed-2:]))
	size := 0 // of an address
	switch {
	case command == forItself:
	case family == tcpOverIPv4:
		size = 4
	case family == tcpOverIPv6:
		size = 16
	}
	if length < fixed+2*size+4 && size > 0 {
		return client, 0, ErrBroken
	}
	if len(b) < length {
		return client, 0, ErrMore
	}
	if size > 0 {
		addr, _ := netip.AddrFromSlice(b[fixed : fixed+size])
		port := binary.BigEndian.Uint16(b[fixed+2*size:])
		client = netip.AddrPortFrom(addr.Unmap(), port)
	}
	return client, length, nil
}
