package main

// inNear are planted in near_cache.
var inNear = []bug{
	{
		"a client that has written a hot key gets the older value", "proxy/near/cache.go",
		"	if c.isBarred {\n		c.isBarred, c.fence = false, of.stamp\n	}\n", "",
		"./proxy", "TestNearOwnWrites",
	},
	{
		"a script bars nobody from hot keys", "proxy/near/cache.go",
		"	if cmd.Unproven() {\n		return true\n	}\n",
		"	if cmd.Unproven() {\n		return false\n	}\n",
		"./proxy", "TestNearOwnWrites",
	},
	{
		"a write that began before its key was hot is overlooked", "proxy/near/cache.go",
		"if waits && began <= e.born {", "if waits && began < 0 {",
		"./proxy", "TestNearOlderWrites",
	},
	{
		"a client that another process has served gets an older value", "proxy/engine/session.go",
		"		w.Near.Fence(s)\n", "",
		"./proxy", "TestNearTakenOver",
	},
	{
		"behind a GET at the node the older value may come", "proxy/near/cache.go",
		"if waits && oldest <= c.seq {", "if waits && c.isBarred && oldest <= c.seq {",
		"./proxy", "TestNearNeverBack",
	},
	{
		"a newer value that a node tells a client leaves the older one", "proxy/near/entry.go",
		"if e.isSet && !bytes.Equal(e.reply, reply) {", "if e.isSet && len(e.reply) != len(reply) {",
		"./proxy", "TestNearNeverBack",
	},
	{
		"a value is kept that is older than what a node has told a client", "proxy/near/entry.go",
		"	case e.isTorn || f.hasSeen && e.seen != maphash.Bytes(engine.HashSeed, f.value):\n",
		"	case e.isTorn:\n",
		"./proxy", "TestNearNeverBack",
	},
	{
		"the lease of a value begins when it arrives", "proxy/near/entry.go",
		"e.until = min(f.at+", "e.until = min(w.Now+",
		"./proxy", "TestNearLease",
	},
	{
		"a value that is used is not asked for again", "proxy/near/cache.go",
		"e.hits >= worth && e.fill == nil {", "e.hits < 0 && e.fill == nil {",
		"./proxy", "TestNearLease",
	},
	{
		"a value outlives its key", "proxy/near/entry.go",
		"	return f.at + ttl*int64(time.Millisecond), true\n", "	return math.MaxInt64, true\n",
		"./proxy", "TestNearExpires",
	},
	{
		"the value of a lost connection stays", "proxy/near/tracking.go",
		"func (c *trackingConn) Lost(*pool.Conn) { c.dropAll() }", "func (c *trackingConn) Lost(*pool.Conn) {}",
		"./proxy", "TestNearLost",
	},
	{
		"the node's figures lack the tracking connection", "proxy/engine/node.go",
		"		f.CountConns(n, &s)\n", "",
		"./test", "TestNearCacheInTheFiguresOfNodes",
	},
	{
		"a node that refuses CLIENT TRACKING is unreachable", "proxy/near/tracking.go",
		"c.conn.Extra = true, c, \"near_cache\"", "c.conn.Extra = true, c, \"\"",
		"./test", "TestNearCacheThatTheNodeRefuses",
	},
	{
		"a node that refuses PTTL is asked again and again", "proxy/near/tracking.go",
		"return r.node == n && of.w.Now < r.until", "return r.node == n && of.w.Now > r.until",
		"./proxy", "TestNearRefused",
	},
	{
		"values survive FLUSHALL at the node", "proxy/near/tracking.go",
		"	if !ok || resp.IsNull(keys) { // all keys\n		c.dropAll()\n", "	if !ok || resp.IsNull(keys) {\n",
		"./proxy", "TestNearFlush",
	},
	{
		"values stay at their former owners", "proxy/near/tracking.go",
		"	for _, e := range of.entries {\n		of.drop(e)\n	}\n	// A connection", "	// A connection",
		"./proxy", "TestNearLost",
	},
	{
		"between WATCH and EXEC the older value may come", "proxy/near/cache.go",
		" && s.Block == nil && ", " && ",
		"./proxy", "TestNearOrdinary",
	},
	{
		"keys whose values are hardly used are read again and again", "proxy/near/entry.go",
		"	if e.hits >= worth {\n", "	if e.hits >= 0 {\n",
		"./proxy", "TestNearWorth",
	},
	{
		"what keyway answers does not keep a key hot", "proxy/near/cache.go",
		"	engine.ShowUnanswered(w, &of.call, a.Frame(), len(e.reply))\n", "",
		"./proxy", "TestNearStaysHot",
	},
}
