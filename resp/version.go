package resp

// Version is the version of the protocol that a client or a node speaks. Its methods
// encode values that the two versions encode differently.
type Version uint8

const (
	V2 Version = 2
	V3 Version = 3
)

// AppendNull appends null in place of a bulk string.
func (v Version) AppendNull(dst []byte) []byte {
	if v == V3 {
		return append(dst, "_\r\n"...)
	}
	return AppendNull(dst)
}

// AppendNullArray appends null in place of an array.
func (v Version) AppendNullArray(dst []byte) []byte {
	if v == V3 {
		return append(dst, "_\r\n"...)
	}
	return append(dst, "*-1\r\n"...)
}

// AppendMap appends the header of a map of n pairs. RESP2 has an array instead.
func (v Version) AppendMap(dst []byte, n int) []byte {
	if v == V3 {
		return AppendHeader(dst, '%', n)
	}
	return AppendArray(dst, 2*n)
}

// AppendSet appends the header of a set of n values. RESP2 has an array instead.
func (v Version) AppendSet(dst []byte, n int) []byte {
	if v == V3 {
		return AppendHeader(dst, '~', n)
	}
	return AppendArray(dst, n)
}

// AppendDouble appends a number with a fraction. RESP2 has a bulk string instead.
func (v Version) AppendDouble(dst []byte, number string) []byte {
	if v == V3 {
		return append(append(append(dst, ','), number...), "\r\n"...)
	}
	return AppendBulkString(dst, number)
}

// AppendPush appends the header of a message of n elements that is not a reply.
func (v Version) AppendPush(dst []byte, n int) []byte {
	return AppendHeader(dst, v.PushKind(), n)
}

// PushKind returns the first byte of such a message.
func (v Version) PushKind() byte {
	if v == V3 {
		return '>'
	}
	return '*'
}

// AppendText appends a text for people: a verbatim string in RESP3, a bulk string in RESP2.
func (v Version) AppendText(dst, text []byte) []byte {
	if v == V3 {
		return AppendVerbatim(dst, text)
	}
	return AppendBulk(dst, text)
}
