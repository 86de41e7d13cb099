package resp

// Compose makes p a command of n arguments, all of which AddArg adds next. The command has
// memory of its own, and is valid until p is used again. Nothing may be half framed in p.
func (p *Parser) Compose(n int) {
	p.Trim()
	p.reset()
	p.started = false
	p.enc = AppendArray(p.enc[:0], n)
	p.frame = p.enc
}

// AddArg adds an argument that consists of head and tail.
func (p *Parser) AddArg(head string, tail []byte) {
	n := len(head) + len(tail)
	p.enc = AppendHeader(p.enc, '$', n)
	p.args = append(p.args, span{uint32(len(p.enc)), uint32(n)})
	p.enc = append(p.enc, head...)
	p.enc = append(p.enc, tail...)
	p.enc = append(p.enc, '\r', '\n')
	p.frame = p.enc
}
