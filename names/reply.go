package names

import (
	"github.com/keyway-proxy/keyway/resp"
)

// AppendReply appends a node's whole reply with the user's own names. It leaves out names in
// lists that are not the user's.
func (p *Prefix) AppendReply(dst, reply []byte, shape Shape) []byte {
	if len(reply) > 0 && reply[0] == '-' {
		return p.ownErrorReply(dst, reply)
	}
	n, rest, ok := resp.Elements(reply)
	if shape == NoNames || !ok || n == 0 {
		return append(dst, reply...)
	}
	switch shape {
	case AllNames:
		return p.appendList(dst, n, rest)
	case FirstName:
		dst = append(dst, reply[:len(reply)-len(rest)]...)
		return p.appendEvery(dst, n, rest, n)
	case EvenNames:
		dst = append(dst, reply[:len(reply)-len(rest)]...)
		return p.appendEvery(dst, n, rest, 2)
	case ScanNames:
		cursor, list, _ := resp.Split(rest)
		dst = append(dst, reply[:len(reply)-len(rest)]...)
		dst = append(dst, cursor...)
		return p.AppendReply(dst, list, AllNames)
	}
	return p.appendStreams(dst, reply, n, rest)
}

// appendEvery appends n elements, of which the first and every step-th behind it are names.
func (p *Prefix) appendEvery(dst []byte, n int, rest []byte, step int) []byte {
	for i := range n {
		var one []byte
		if one, rest, _ = resp.Split(rest); i%step == 0 {
			dst = p.appendName(dst, one)
		} else {
			dst = append(dst, one...)
		}
	}
	return dst
}

// appendList appends an array of those of the n names that are the user's.
func (p *Prefix) appendList(dst []byte, n int, rest []byte) []byte {
	count, names := 0, rest
	for range n {
		var one []byte
		one, names, _ = resp.Split(names)
		if name, ok := resp.Bulk(one); ok && p.Has(name) {
			count++
		}
	}
	dst = resp.AppendArray(dst, count)
	for range n {
		var one []byte
		one, rest, _ = resp.Split(rest)
		if name, ok := resp.Bulk(one); ok && p.Has(name) {
			dst = resp.AppendBulk(dst, p.Own(name))
		}
	}
	return dst
}

// appendStreams appends the reply to XREAD: in RESP3 a map, in RESP2 an array of pairs.
func (p *Prefix) appendStreams(dst, reply []byte, n int, rest []byte) []byte {
	dst = append(dst, reply[:len(reply)-len(rest)]...)
	if reply[0] == '%' {
		return p.appendEvery(dst, n, rest, 2)
	}
	for range n {
		var one []byte
		one, rest, _ = resp.Split(rest)
		dst = p.AppendReply(dst, one, FirstName)
	}
	return dst
}

// appendName appends a name of the user, or any other reply as it is.
func (p *Prefix) appendName(dst, reply []byte) []byte {
	name, ok := resp.Bulk(reply)
	if !ok || !p.Has(name) {
		return append(dst, reply...)
	}
	return resp.AppendBulk(dst, p.Own(name))
}

// AppendMessage appends a message to a subscriber: the kind, for a pattern the pattern, the
// channel, and the text.
func (p *Prefix) AppendMessage(dst, message []byte) []byte {
	n, rest, ok := resp.Elements(message)
	if !ok || n < 3 {
		return append(dst, message...)
	}
	kind, rest, _ := resp.Split(rest)
	dst = append(dst, message[:len(message)-len(rest)]...)
	if name, _ := resp.Bulk(kind); string(name) == "pmessage" {
		var one []byte
		one, rest, _ = resp.Split(rest)
		pattern, _ := resp.Bulk(one)
		dst = resp.AppendBulk(dst, p.OwnPattern(pattern))
	}
	channel, text, _ := resp.Split(rest)
	return append(p.appendName(dst, channel), text...)
}

// Invalidated returns the user's own names in an invalidation: keys is an encoded array, or null
// for all keys. ok is false if no key is the user's.
func (p *Prefix) Invalidated(keys []byte) (own []byte, ok bool) {
	n, rest, isList := resp.Elements(keys)
	if !isList || resp.IsNull(keys) {
		return keys, true
	}
	own = p.appendList(nil, n, rest)
	count, _, _ := resp.Elements(own)
	return own, count > 0
}
