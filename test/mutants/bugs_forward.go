package main

// inForwarding are planted in what moves large replies from socket to socket.
var inForwarding = []bug{
	{
		"the inside of a large reply overtakes what waits to be written", "proxy/engine/call.go",
		"s.line.head != r || s.Unsent.Size() > 0 ||", "s.line.head != r ||",
		"./proxy", "TestNotForwarded",
	},
	{
		"the beginning of the next reply is taken for the inside of a large one", "pool/forward.go",
		"c.input.scan.Payload()-forwardedTail,", "c.input.scan.Payload()+forwardedTail,",
		"./proxy", "TestForwardedRepliesAreWhole",
	},
	{
		"what a client's socket does not accept is forgotten in the pipe", "loop/pipe_linux.go",
		"		p.held -= moved\n		n += moved\n", "		p.held = 0\n		n += moved\n",
		"./loop", "TestPipeMovesAllBytes",
	},
	{
		"what a client's socket does not accept is lost", "server/backend.go",
		"		b.link.Received(b.t.buf[:n], b.t.now)\n	}\n", "	}\n",
		"./test/faults", "TestForwardedToASlowClient",
	},
}
