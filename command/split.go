package command

import "github.com/keyway-proxy/keyway/resp"

// AppendPart appends the frame of one call of a Split command. args is the whole command.
// The frame has n of its keys. first is the ordinal of the first of them (0 for the
// command's first key), and next[k] is the ordinal of the one that follows key k.
func (c *Command) AppendPart(dst []byte, args Args, first int32, next []int32, n int) []byte {
	stride := c.Stride
	dst = resp.AppendArray(dst, 1+n*stride+c.Tail)
	dst = resp.AppendBulk(dst, args.Arg(0))
	for k := first; n > 0; k, n = next[k], n-1 {
		for i := range stride {
			dst = resp.AppendBulk(dst, args.Arg(1+int(k)*stride+i))
		}
	}
	for i := args.Len() - c.Tail; i < args.Len(); i++ {
		dst = resp.AppendBulk(dst, args.Arg(i))
	}
	return dst
}
