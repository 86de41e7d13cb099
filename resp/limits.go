package resp

// Limits bound what one command may ask for. They are checked on its headers,
// before the payload is read or memory is taken.
type Limits struct {
	MaxBulk    int // bytes of one argument
	MaxArgs    int // arguments of one command
	MaxInline  int // bytes of a line: an inline command or a header
	MaxRequest int // bytes of one command, headers included

	// Unauthenticated words the refusal of a command that is over MaxArgs or
	// MaxBulk the way Redis does for clients that have not authenticated.
	Unauthenticated bool
}

// DefaultLimits are Redis's own: proto-max-bulk-len, PROTO_INLINE_MAX_SIZE,
// and the 1024*1024 arguments that every version still accepts.
var DefaultLimits = Limits{
	MaxBulk:    512 << 20,
	MaxArgs:    1 << 20,
	MaxInline:  64 << 10,
	MaxRequest: 512 << 20,
}

// UnauthenticatedLimits returns l tightened to what Redis lets a client send
// before it has authenticated (CVE-2021-32675).
func (l Limits) UnauthenticatedLimits() Limits {
	l.MaxArgs = min(l.MaxArgs, 10)
	l.MaxBulk = min(l.MaxBulk, 16384)
	l.MaxRequest = min(l.MaxRequest, 1<<20)
	l.Unauthenticated = true
	return l
}

// ProtocolError is the text after "-ERR " that ends a client's connection.
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
	errRequestTooBig   = ProtocolError("keyway: the request is larger than limits.max_request; raise it, or send the value in parts (APPEND, SETRANGE)")
)
