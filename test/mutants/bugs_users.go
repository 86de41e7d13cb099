package main

// inUsers are planted in what users may do.
var inUsers = []bug{
	{
		"only the first of several passwords is valid", "acl/users.go",
		"range u.passwords {", "range u.passwords[:1] {",
		"./acl", "TestAuthenticate",
	},
	{
		"a user who is off can authenticate", "acl/users.go",
		"u == nil || !u.enabled", "u == nil",
		"./acl", "TestAuthenticate",
	},
	{
		"a user may write keys that the rules let it read", "acl/selector.go",
		"p.use&use == use &&", "(p.use&use != 0 || use == 0) &&",
		"./acl", "TestVerdictsAsRedis",
	},
	{
		"only the first key of a command is checked", "acl/selector.go",
		"range mem.at {", "range mem.at[:min(1, len(mem.at))] {",
		"./acl", "TestVerdictsAsRedis",
	},
	{
		"a pattern of channels is allowed if a rule matches it", "acl/selector.go",
		"!isPattern && p.matches(channel)", "p.matches(channel)",
		"./acl", "TestPatternsOfChannels",
	},
	{
		"a forbidden container leaves its subcommands allowed", "acl/selector.go",
		"		s.setCommand(&c.Subs[i], allow)\n", "		_ = i\n",
		"./acl", "TestVerdictsAsRedis",
	},
	{
		"a transaction runs although its user has lost the rights", "proxy/txn/multi.go",
		"t.user != s.User && !mayStillRun", "t.user == nil && !mayStillRun",
		"./test", "TestUsersReload",
	},
	{
		"a changed user shares its patterns with the former one", "acl/change.go",
		"slices.Clone(s.keys), slices.Clone(s.channels)", "s.keys, slices.Clone(s.channels)",
		"./acl", "TestSetChangesNoOthers",
	},
	{
		"commands behind ACL SETUSER do not wait for it", "proxy/engine/ask.go",
		"	s.Set(Draining | Blocked)\n	task.By", "	task.By",
		"./test", "TestUserChangesLikeRedis",
	},
	{
		"a reload forgets what ACL SETUSER has changed", "server/users.go",
		"	if !c.Users {", "	if s.o.Streams {",
		"./test", "TestUserChangesAndReloads",
	},
	{
		"the file that ACL SAVE has written undoes later changes", "cmd/keyway/served.go",
		"	p.cfg.Store(next) // so that", "	_ = next // so that",
		"./test", "TestUserChangesAndReloads",
	},
	{
		"a certificate makes its client a user who is off", "proxy/engine/session.go",
		"u != nil && u.Enabled()", "u != nil",
		"./test", "TestUserFromCertificate",
	},
}
