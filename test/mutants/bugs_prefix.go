package main

// inPrefix are planted in what becomes of the names of users who have a prefix.
var inPrefix = []bug{
	{
		"a command whose names keyway does not know is sent as it is", "names/command.go",
		"		return p.refuse(cmd, why)\n	}\n	return \"\"\n", "		_ = why\n	}\n	return \"\"\n",
		"./names", "TestRefusedForPrefix",
	},
	{
		"a second STORE of GEORADIUS names a key of others", "names/command.go",
		"command.EqualFold(arg, \"storedist\")):", "command.EqualFold(arg, \"storedist\")) && len(m.marks) < 2:",
		"./names", "TestWholeNames",
	},
	{
		"a number of keys that is malformed hides keys", "names/command.go",
		"s.Find == command.ByNumber && len(m.keys) == 0", "s.Find == command.ByNumber && len(m.keys) > a.Len()",
		"./names", "TestWholeNames",
	},
	{
		"a client hears of the keys of others", "proxy/tracking/tracking.go",
		"keys, ok = s.User.Prefix.Invalidated(keys); !ok", "_, ok = s.User.Prefix.Invalidated(keys); !ok && w == nil",
		"./test/transcripts", "TestTranscripts",
	},
	{
		"names inside EXEC's reply keep the prefix", "proxy/txn/late.go",
		"> 0 || t.user.Prefix != nil", "> 0 || t.user == nil",
		"./test/transcripts", "TestTranscripts",
	},
	{
		"ACL SETUSER with reset takes a user's prefix away", "acl/rules.go",
		"		u.Settings = settings\n", "		_ = settings\n",
		"./acl", "TestPrefixIsNoRule",
	},
}
