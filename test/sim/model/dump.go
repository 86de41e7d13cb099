package model

import (
	"encoding/binary"
	"hash/crc64"
	"math"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// The model's payload of DUMP: the type, the strings with their lengths, the version, and a
// checksum of all that. Only the model reads it.
const (
	dumpVersion = 10
	dumpFooter  = 2 + 8
	dumpText    = 0
	dumpList    = 1
)

var crcTable = crc64.MakeTable(crc64.ECMA)

func (e *entry) payload() []byte {
	kind, all := byte(dumpText), []string{e.text}
	if e.list != nil {
		kind, all = dumpList, e.list
	}
	b := []byte{kind}
	for _, s := range all {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = binary.LittleEndian.AppendUint16(b, dumpVersion)
	return binary.LittleEndian.AppendUint64(b, crc64.Checksum(b, crcTable))
}

// parsePayload returns the value in a payload, or an error.
func parsePayload(b []byte) (e *entry, wrong string) {
	const damaged = "ERR DUMP payload version or checksum are wrong"
	end := len(b) - dumpFooter
	if end < 1 || crc64.Checksum(b[:end+2], crcTable) != binary.LittleEndian.Uint64(b[end+2:]) ||
		binary.LittleEndian.Uint16(b[end:]) > dumpVersion {
		return nil, damaged
	}
	var all []string
	for at := 1; at < end; {
		size, n := binary.Uvarint(b[at:end])
		if n <= 0 || size > uint64(end-at-n) {
			return nil, "ERR Bad data format"
		}
		all = append(all, string(b[at+n:at+n+int(size)]))
		at += n + int(size)
	}
	switch {
	case b[0] == dumpText && len(all) == 1:
		return &entry{text: all[0]}, ""
	case b[0] == dumpList && len(all) > 0:
		return &entry{list: all}, ""
	}
	return nil, "ERR Bad data format"
}

func dump(c *Conn, args []string) []byte {
	e := c.node.lookup(args[1])
	if e == nil {
		return c.null()
	}
	return resp.AppendBulk(nil, e.payload())
}

// restoreOptions are the options of RESTORE.
type restoreOptions struct {
	replace, absolute bool
	idle, freq        int64 // -1: not said
}

func parseRestore(args []string) (o restoreOptions, wrong string) {
	o = restoreOptions{idle: -1, freq: -1}
	for i := 0; i < len(args); i++ {
		word, value, hasValue := strings.ToUpper(args[i]), int64(0), false
		if i+1 < len(args) {
			value, hasValue = number(args[i+1])
		}
		switch {
		case word == "REPLACE":
			o.replace = true
		case word == "ABSTTL":
			o.absolute = true
		case word == "IDLETIME" && i+1 < len(args) && o.freq < 0:
			if i++; !hasValue {
				return o, notInteger
			}
			if o.idle = value; value < 0 {
				return o, "ERR Invalid IDLETIME value, must be >= 0"
			}
		case word == "FREQ" && i+1 < len(args) && o.idle < 0:
			if i++; !hasValue {
				return o, notInteger
			}
			if o.freq = value; value < 0 || value > 255 {
				return o, "ERR Invalid FREQ value, must be >= 0 and <= 255"
			}
		default:
			return o, syntax
		}
	}
	return o, ""
}

// restore executes RESTORE (cluster.c, restoreCommand).
func restore(c *Conn, args []string) []byte {
	n := c.node
	o, wrong := parseRestore(args[4:])
	if wrong != "" {
		return errorReply(wrong)
	}
	if !o.replace && n.lookup(args[1]) != nil {
		return errorReply("BUSYKEY Target key name already exists.")
	}
	expiry, isNumber := number(args[2])
	if !isNumber {
		return errorReply(notInteger)
	}
	if expiry < 0 {
		return errorReply("ERR Invalid TTL value, must be >= 0")
	}
	e, wrong := parsePayload([]byte(args[3]))
	if wrong != "" {
		return errorReply(wrong)
	}
	if expiry > 0 && !o.absolute {
		expiry = min(expiry, math.MaxInt64-n.now()) + n.now()
	}
	if expiry > 0 && expiry <= n.now() { // it creates nothing
		n.put(args[1], nil)
		return resp.AppendOK(nil)
	}
	e.expiry, e.used, e.count = expiry, n.Clock(), max(o.freq, 0)
	if o.idle >= 0 {
		e.used -= o.idle * 1e9
	}
	n.put(args[1], e)
	return resp.AppendOK(nil)
}
