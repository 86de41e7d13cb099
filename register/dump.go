package register

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc64"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// The payload of FUNCTION DUMP is the libraries, each as one opcode and the library's text as
// a string of an RDB file, and then the version of that format and a checksum (functions.c,
// functionDumpCommand).
const (
	opcode   = 245 // RDB_OPCODE_FUNCTION2
	footer   = 2 + checksum
	checksum = 8
	lzf      = 3       // a compressed string
	maxLine  = 4 << 10 // of a library's text
)

// NoLibraries is the payload of FUNCTION DUMP of a node without libraries, in the format of Redis 7.0.
// FUNCTION RESTORE of it changes nothing and needs no key, yet is replicated.
const NoLibraries = "\x0a\x00\x5d\x9b\x5c\x40\x0f\x7f\xa2\xda"

// jones is the polynomial of Redis's CRC64, with its bits reversed.
var jones = crc64.MakeTable(0x95ac9329ac4bc9b5)

// sum returns Redis's checksum, which is neither inverted before nor after.
func sum(b []byte) uint64 { return ^crc64.Update(^uint64(0), jones, b) }

// ErrChecksum is the error of ReadDump for a payload that nodes refuse as damaged.
var ErrChecksum = errors.New("the checksum of the dump is wrong")

var errFormat = errors.New("the dump has something else than libraries")

// Dump is the payload of FUNCTION DUMP.
type Dump struct {
	Clients []string // the names of the libraries of clients, as far as their texts have one
	Payload []byte   // without the records
	Records int      // that the payload had
}

// ReadDump reads a payload. It returns an error if that has something that is no library.
func ReadDump(payload []byte) (d Dump, err error) {
	if len(payload) < footer {
		return d, ErrChecksum
	}
	end := len(payload) - footer
	if binary.LittleEndian.Uint64(payload[len(payload)-checksum:]) != sum(payload[:len(payload)-checksum]) {
		return d, ErrChecksum
	}
	for rest := payload[:end]; len(rest) > 0; {
		if rest[0] != opcode {
			return d, errFormat
		}
		text, n, ok := rdbString(rest[1:])
		if !ok {
			return d, errFormat
		}
		name := NameIn(text)
		if IsRecord([]byte(name)) {
			d.Records++
		} else {
			d.Clients = append(d.Clients, name)
			d.Payload = append(d.Payload, rest[:1+n]...)
		}
		rest = rest[1+n:]
	}
	d.Payload = append(d.Payload, payload[end:end+2]...)
	d.Payload = binary.LittleEndian.AppendUint64(d.Payload, sum(d.Payload))
	return d, nil
}

// rdbString returns the string at the beginning of b, and how many bytes it takes there. Of a
// compressed string it returns only the first line.
func rdbString(b []byte) (text []byte, n int, ok bool) {
	size, n, special := rdbLength(b)
	if n == 0 || special && size != lzf {
		return nil, 0, false
	}
	if !special {
		return b[n:min(n+size, len(b))], n + size, n+size <= len(b)
	}
	packed, k, special1 := rdbLength(b[n:])
	_, k2, special2 := rdbLength(b[n+k:])
	n += k + k2
	if k == 0 || k2 == 0 || special1 || special2 || packed > len(b)-n {
		return nil, 0, false
	}
	text, ok = unpackLine(b[n : n+packed])
	return text, n + packed, ok
}

// rdbLength returns the length at the beginning of b, and how many bytes it takes there, 0 if
// it is incomplete or of an unknown kind. special says that it is the kind of a string instead.
func rdbLength(b []byte) (length, n int, special bool) {
	switch {
	case len(b) >= 1 && b[0]>>6 == 0:
		return int(b[0]), 1, false
	case len(b) >= 2 && b[0]>>6 == 1:
		return int(b[0]&0x3f)<<8 | int(b[1]), 2, false
	case len(b) >= 5 && b[0] == 0x80:
		return int(binary.BigEndian.Uint32(b[1:])), 5, false
	case len(b) >= 1 && b[0]>>6 == 3:
		return int(b[0] & 0x3f), 1, true
	}
	return 0, 0, false
}

// unpackLine returns the first line of a text that was compressed by LZF: a sequence of bytes
// to copy from the input, and of bytes to repeat from the output. ok is false if that is
// damaged, or if the line is too long to have been written by people.
func unpackLine(in []byte) (out []byte, ok bool) {
	for len(in) > 0 && bytes.IndexByte(out, '\n') < 0 {
		control := int(in[0])
		in = in[1:]
		if control < 32 {
			if len(in) < control+1 {
				return nil, false
			}
			out, in = append(out, in[:control+1]...), in[control+1:]
			continue
		}
		length := control >> 5
		if length == 7 && len(in) > 0 {
			length, in = length+int(in[0]), in[1:]
		}
		if len(in) == 0 {
			return nil, false
		}
		from := len(out) - (control&0x1f)<<8 - int(in[0]) - 1
		if in = in[1:]; from < 0 || len(out) > maxLine {
			return nil, false
		}
		for range length + 2 {
			out, from = append(out, out[from]), from+1
		}
	}
	return out, true
}

// nameLimits bound the first line of a library.
var nameLimits = resp.Limits{MaxInline: 1 << 20, MaxArgs: 1 << 10, MaxBulk: 1 << 20, MaxRequest: 1 << 21}

// NameIn returns the name in the first line of a library's text, read as nodes read it
// (functions.c, functionExtractLibMetaData). It is empty if there is none.
func NameIn(code []byte) string {
	line, _, _ := bytes.Cut(code, []byte("\n"))
	if !bytes.HasPrefix(line, []byte("#!")) {
		return ""
	}
	var p resp.Parser
	if _, st, err := p.Next(append(bytes.Clone(line), '\n'), &nameLimits); err != nil || st != resp.Ready {
		return ""
	}
	for i := 1; i < p.Len(); i++ {
		if word := string(p.Arg(i)); len(word) > 5 && strings.EqualFold(word[:5], "name=") {
			return word[5:]
		}
	}
	return ""
}
