package main

// inDrain are planted in what closes the clients when keyway stops.
var inDrain = []bug{
	{
		"a client is closed with input that was read and not executed", "proxy/engine/session.go",
		"s.line.head == nil && s.Inflight == 0 && len(s.In) == 0 && s.Confirming == 0",
		"s.line.head == nil && s.Inflight == 0 && s.Confirming == 0",
		"./proxy", "TestDrainSparesPreparations",
	},
	{
		"a client is closed between MULTI and EXEC", "proxy/drain/drain.go",
		"	case activity == engine.InTransaction:\n\t\treturn false\n",
		"	case activity == engine.InTransaction:\n\t\treturn true\n",
		"./test", "TestDrainClosesBetweenCommands",
	},
	{
		"a blocked client with a timeout is closed without a reply", "proxy/blocking/blocking.go",
		"case b.call.Timeout != 0:", "case b.call.Timeout == 0:",
		"./test", "TestDrainClosesBetweenCommands",
	},
	{
		"the reply to PING carries the end of the connection", "proxy/drain/drain.go",
		"	case \"connection\", \"server\", \"cluster\":\n\t\treturn false\n",
		"	case \"connection\", \"server\", \"cluster\":\n\t\treturn true\n",
		"./proxy", "TestDrainSparesPreparations",
	},
}
