package command

import "github.com/keyway-proxy/keyway/resp"

// AppendPart appends the part of a Split command that concerns some of its
// keys: args is the whole command, keys are the ordinals (0 for the first key)
// to take, n of them, the first being first and next[k] following k.
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
