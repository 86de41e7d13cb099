package resp

// Limits bound one command. The parser checks them on the headers, before the payload is
// read or memory is allocated.
type Limits struct {
	MaxBulk    int // bytes of one argument
	MaxArgs    int // arguments of one command
	MaxInline  int // bytes of a line: an inline command or a header
	MaxRequest int // bytes of one command, headers included

	// Unauthenticated selects the error texts that Redis uses for clients that have not
	// authenticated.
	Unauthenticated bool
}

// DefaultLimits are Redis's own limits: proto-max-bulk-len, PROTO_INLINE_MAX_SIZE, and
// 1024*1024 arguments, which every version accepts.
var DefaultLimits = Limits{
	MaxBulk:    512 << 20,
	MaxArgs:    1 << 20,
	MaxInline:  64 << 10,
	MaxRequest: 512 << 20,
}

// UnauthenticatedLimits returns l, reduced to what Redis accepts from a client that has not
// authenticated (CVE-2021-32675).
func (l Limits) UnauthenticatedLimits() Limits {
	l.MaxArgs = min(l.MaxArgs, 10)
	l.MaxBulk = min(l.MaxBulk, 16384)
	l.MaxRequest = min(l.MaxRequest, 1<<20)
	l.Unauthenticated = true
	return l
}

// ProtocolError is an error that ends a client's connection: the text after "-ERR ".
type ProtocolError string

func (e ProtocolError) Error() string { return string(e) }

const (
	errMultibulkLength = ProtocolError("Protocol error: invalid multibulk length")
	errBulkLength      = ProtocolError("Protocol error: invalid bulk length")
	errUnauthMultibulk = ProtocolError("Protocol error: unauthenticated multibulk length")
	errUnauthBulk      = ProtocolError("Protocol error: unauthenticated bulk length")
	errInlineTooBig    = ProtocolError("Protocol error: too big inline request")
	errMbulkTooBig     = ProtocolError("Protocol error: too big mbulk count string")
	errBulkTooBig      = ProtocolError("Protocol error: too big bulk count string")
	errUnbalanced      = ProtocolError("Protocol error: unbalanced quotes in request")
	errRequestTooBig   = ProtocolError("keyway: the request is larger than limits.max_request; " +
		"raise it, or send the value in parts (APPEND, SETRANGE)")
)
