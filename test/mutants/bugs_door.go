package main

// atDoor are planted in what decides which connections become clients.
var atDoor = []bug{
	{
		"each thread keeps the clients that the kernel gave it", "server/client.go",
		"own-least <= own/16", "own-least <= own",
		"./test", "TestClientsSpreadEvenly",
	},
	{
		"anybody may announce the address of a client", "server/accept.go",
		"	case balancers.Contain(peer.Addr()):\n", "	case true:\n",
		"./test", "TestProxyProtocolRefusals",
	},
	{
		"the networks are compared with the balancer's address", "server/accept.go",
		"|| isAllowed(t, client)\n", "|| isAllowed(t, balancer)\n",
		"./test", "TestAllowedNetworks",
	},
	{
		"a client that a balancer announces is of this machine", "server/accept.go",
		"o.peer, o.isTrusted = client.String(), o.isTrusted && client.Addr().IsLoopback()",
		"o.peer = client.String()",
		"./test", "TestProtectedMode$",
	},
	{
		"a header that comes in two parts is parsed without the first", "server/accept.go",
		"		a.received = append(a.received, b...)\n		b = a.received\n",
		"		a.received = append(a.received, b...)\n",
		"./test", "TestProxyProtocol$",
	},
	{
		"wrong passwords are counted by one thread alone", "proxy/answers/authdelay.go",
		"engine.FeatureOf[*authDelays](o).guesses.Count(from, o.Now)", "_ = o",
		"./test", "TestGuessesCountOnAllThreads",
	},
	{
		"an attempt that waits is answered when the client asks again", "proxy/answers/authdelay.go",
		"	s.Set(engine.Blocked)\n	return true\n", "	s.Set(engine.Draining)\n	s.Wake()\n	return true\n",
		"./test/transcripts", "TestTranscripts/auth-delays",
	},
	{
		"clients that have left make others wait", "proxy/answers/authdelay.go",
		"t != nil && !t.isOver {", "t != nil && t.isOver {",
		"./proxy", "TestGuessesOfOneAddress",
	},
	{
		"clients of a network that is gone stay", "server/configure.go",
		"!slices.Equal(before.Clients.Allow, c.Config.Clients.Allow)", "len(before.Clients.Allow) > 1<<20",
		"./test", "TestAllowedNetworks",
	},
	{
		"any token lets operators act", "admin/guard.go",
		"return found == 1", `return text != ""`,
		"./admin", "TestPagesThatAct",
	},
	{
		"without tokens everything acts", "admin/guard.go",
		"len(tokens) == 0 && n == ifThereAreTokens", "len(tokens) == 0",
		"./admin", "TestPagesThatAct",
	},
	{
		"KEYWAY CONFIG shows passwords", "config/changes.go",
		"k.secret && value != \"\"", "k.secret && value == \"-\"",
		"./config", "TestSettingsShowNoSecret",
	},
	{
		"the console trusts the lengths that clients announce", "console/bounded.go",
		"n, status, err := c.parser.Next(c.in, &limits)", "n, status, err := c.parser.Next(c.in, &resp.DefaultLimits)",
		"./console", "TestConsoleIsBounded",
	},
	{
		"anybody sets the level of the log at the console", "console/server.go",
		"IsOpen: !s.token}", "IsOpen: false}",
		"./console", "TestConsole$",
	},
	{
		"names steer the terminal of an operator", "terminal/table.go",
		"	return resp.Text([]byte(s))\n", "	return s\n",
		"./terminal", "TestPagesFit",
	},
	{
		"operators keep a token that the file has no more", "config/passwords.go",
		"c.Clients.PasswordFile, c.UsersFile, c.Admin.TokenFile)", "c.Clients.PasswordFile, c.UsersFile)",
		"./config", "TestFormsOfAdmin",
	},
	{
		"a closed client stays connected", "proxy/answers/client.go",
		"AppendLine(nil))\n			s.Kill()\n", "AppendLine(nil))\n",
		"./test", "TestAuditOfAdmin",
	},
	{
		"the record has the values of settings", "proxy/answers/slowlog.go",
		"len(names) < maxShown; i += 2 {", "len(names) < maxShown; i++ {",
		"./test", "TestAuditOfClients",
	},
}
