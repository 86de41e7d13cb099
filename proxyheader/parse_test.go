package proxyheader

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// v2 returns a header of version 2 as the specification draws it.
func v2(command, family byte, rest string) string {
	return "\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A" + string([]byte{
		command, family, byte(len(rest) >> 8), byte(len(rest)),
	}) + rest
}

const (
	ipv4  = "\xc0\x00\x02\x07\x0a\x00\x00\x01\xd9\x03\x18\xeb" // 192.0.2.7:55555 to 10.0.0.1:6379
	ipv6  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07"
	unix  = "/tmp/a"
	extra = "\x05\x00\x03abc" // a TLV
)

var headers = map[string]struct {
	text, client string // "": not valid
	err          error
}{
	"TCP4":               {"PROXY TCP4 192.0.2.7 10.0.0.1 55555 6379\r\n", "192.0.2.7:55555", nil},
	"TCP6":               {"PROXY TCP6 2001:db8::7 ::1 55555 6379\r\n", "[2001:db8::7]:55555", nil},
	"mapped":             {"PROXY TCP6 ::ffff:192.0.2.7 ::1 55555 6379\r\n", "192.0.2.7:55555", nil},
	"UNKNOWN":            {"PROXY UNKNOWN\r\n", "", nil},
	"UNKNOWN with more":  {"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", nil},
	"longest":            {"PROXY UNKNOWN" + strings.Repeat(" ", 92) + "\r\n", "", nil},
	"too long":           {"PROXY UNKNOWN" + strings.Repeat(" ", 93) + "\r\n", "", ErrBroken},
	"wrong family":       {"PROXY TCP4 ::1 ::1 1 2\r\n", "", ErrBroken},
	"wrong destination":  {"PROXY TCP4 1.2.3.4 x 1 2\r\n", "", ErrBroken},
	"no port":            {"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "", ErrBroken},
	"large port":         {"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", "", ErrBroken},
	"zeros":              {"PROXY TCP4 1.2.3.4 1.2.3.4 0001 2\r\n", "", ErrBroken},
	"sign":               {"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", "", ErrBroken},
	"zone":               {"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "", ErrBroken},
	"no CR":              {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "", ErrBroken},
	"other words":        {"PROXY SCTP 1.2.3.4 1.2.3.4 1 2\r\n", "", ErrBroken},
	"none":               {"PING\r\n", "", ErrNone},
	"none of RESP":       {"*1\r\n$4\r\nPING\r\n", "", ErrNone},
	"none of TLS":        {"\x16\x03\x01", "", ErrNone},
	"empty line":         {"\r\nPING\r\n", "", ErrNone},
	"v2 IPv4":            {v2(0x21, 0x11, ipv4), "192.0.2.7:55555", nil},
	"v2 IPv4, TLVs":      {v2(0x21, 0x11, ipv4+extra+extra), "192.0.2.7:55555", nil},
	"v2 IPv6":            {v2(0x21, 0x21, ipv6+ipv6+"\xd9\x03\x18\xeb"), "[2001:db8::7]:55555", nil},
	"v2 LOCAL":           {v2(0x20, 0x00, ""), "", nil},
	"v2 LOCAL, address":  {v2(0x20, 0x11, ipv4), "", nil},
	"v2 LOCAL, TLV":      {v2(0x20, 0x00, extra), "", nil},
	"v2 unspecified":     {v2(0x21, 0x00, extra), "", nil},
	"v2 UDP":             {v2(0x21, 0x12, ipv4), "", nil},
	"v2 unix":            {v2(0x21, 0x31, unix+strings.Repeat("\x00", 216-len(unix))), "", nil},
	"v2 longest":         {v2(0x21, 0x11, ipv4+strings.Repeat("x", 65535-len(ipv4))), "192.0.2.7:55555", nil},
	"v2 short address":   {v2(0x21, 0x11, ipv4[:11]), "", ErrBroken},
	"v2 short address 6": {v2(0x21, 0x21, ipv6), "", ErrBroken},
	"v2 version 3":       {v2(0x31, 0x11, ipv4), "", ErrBroken},
	"v2 command 2":       {v2(0x22, 0x11, ipv4), "", ErrBroken},
}

// TestParse: a header gives the client's address and its own length, whatever follows. Of each
// shorter beginning, Parse says that more is to come.
func TestParse(t *testing.T) {
	for name, h := range headers {
		for _, behind := range []string{"", "*1\r\n$4\r\nPING\r\n"} {
			client, n, err := Parse([]byte(h.text + behind))
			var want netip.AddrPort
			if h.client != "" {
				want = netip.MustParseAddrPort(h.client)
			}
			if client != want || !errors.Is(err, h.err) || err == nil && n != len(h.text) {
				t.Errorf("%s: %v, %d of %d bytes, %v", name, client, n, len(h.text), err)
			}
		}
		for i := range len(h.text) {
			switch client, _, err := Parse([]byte(h.text[:i])); {
			case h.err == nil && err != ErrMore, h.err != nil && err != ErrMore && err != h.err:
				t.Fatalf("%s: after %d bytes: %v, %v", name, i, client, err)
			}
		}
	}
}

// TestBegins: no command of Redis begins like a header.
func TestBegins(t *testing.T) {
	for name, h := range headers {
		want := !errors.Is(h.err, ErrNone) && name != "other words"
		if got := Begins([]byte(h.text)); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzParse: Parse gives the same answer however the bytes arrive, takes no more than MaxLen, and
// returns only addresses that the header has.
func FuzzParse(f *testing.F) {
	for _, h := range headers {
		f.Add([]byte(h.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		client, n, err := Parse(b)
		if err == nil && (n < len("PROXY UNKNOWN\r\n") || n > len(b) || n > MaxLen) {
			t.Fatalf("%d bytes of %d", n, len(b))
		}
		if len(b) >= MaxLen && err == ErrMore {
			t.Fatal("more than MaxLen is asked for")
		}
		if client.IsValid() && (err != nil || client.Addr().Is4In6() || client.Addr().Zone() != "") {
			t.Fatalf("%v, %v", client, err)
		}
		if client.IsValid() && b[0] == 'P' && !bytes.Contains(b[:n], []byte(" "+itoa(client.Port())+" ")) {
			t.Fatalf("the header lacks the port of %v", client)
		}
		for i := range min(len(b), 300) {
			early, m, earlyErr := Parse(b[:i])
			if earlyErr == ErrMore || err == earlyErr && early == client && m == n {
				continue
			}
			t.Fatalf("after %d bytes: %v, %v; after %d: %v, %v", i, early, earlyErr, len(b), client, err)
		}
	})
}

func itoa(port uint16) string {
	var digits []byte
	for n := port; len(digits) == 0 || n > 0; n /= 10 {
		digits = append([]byte{'0' + byte(n%10)}, digits...)
	}
	return string(digits)
}
