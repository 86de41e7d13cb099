package main

// inInput are planted in what turns the bytes of clients into commands, and in what many keyways ask nodes.
var inInput = []bug{
	{
		"a thread copies large commands while others wait", "proxy/engine/input.go",
		"if w.Enlarge == nil || len(s.In) < largeInput ||", "if w.Enlarge == nil || len(s.In) > largeInput ||",
		"./proxy", "TestLargeCommandsAreCopiedBesideTheLoop",
	},
	{
		"a client whose command has outrun its buffer is not served any more", "proxy/engine/input.go",
		"		s.In = append(bigger, s.In[len(old):]...)\n	}\n	s.Wake()\n",
		"		s.In = append(bigger, s.In[len(old):]...)\n		s.Wake()\n	}\n",
		"./proxy", "TestLargeCommandsAreCopiedBesideTheLoop",
	},
	{
		"silent connections get their PINGs at the same time", "proxy/engine/node.go",
		"return wait + wait/4*int64(part)/parts", "return wait + 0*int64(part)",
		"./proxy", "TestManyKeywaysPingSilentNodesLessOften",
	},
	{
		"each master has its own connections to its sentinels", "topology/sentinels.go",
		"if s = all.of[key]; s == nil {", "if s = nil; s == nil {",
		"./topology", "TestMastersShareSentinels",
	},
}
