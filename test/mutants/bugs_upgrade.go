package main

// inUpgrade are planted in what hands clients over to a new process.
var inUpgrade = []bug{
	{
		"another upgrade begins before the clients have come over", "daemon/upgrade.go",
		"	case <-time.After(time.Second): // clients of the process before have yet to come\n",
		"	case <-time.After(0):\n		break\n	case <-time.After(time.Hour):\n",
		"./test", "TestUpgradeDuringAnUpgrade",
	},
	{
		"busy clients wait until idle ones have gone over", "server/handover.go",
		"since: t.now - busyTime,", "since: 0,",
		"./test", "TestUpgradePause",
	},
	{
		"clients are served between the subscribers and their turn", "server/handover.go",
		"	// The others wait for their turn: one that subscribed here would get no messages.\n",
		"	p.t.worker.Each(func(s *proxy.Session) {\n		if !s.Bind.(*client).isAway {\n" +
			"			proxy.GoOn(s)\n		}\n	})\n",
		"./test", "TestUpgradeWhileClientsSubscribe",
	},
	{
		"the new process speaks to systemd before it is the main one", "daemon/upgrade.go",
		"	defer close(r.isMain)\n", "	close(r.isMain)\n",
		"./test", "TestUpgradeUnderSystemd",
	},
	{
		"the old process is watched when it is not the main one any more", "systemd/notify.go",
		"n.isSilent.Store(true)", "n.isSilent.Store(false)",
		"./systemd", "TestReplacedIsSilent",
	},
	{
		"a client that has something unknown is taken over without it", "proxy/handover/handover.go",
		"	d.DisallowUnknownFields()\n", "",
		"./proxy/handover", "TestWhatIsNotUnderstoodIsRefused",
	},
	{
		"a client that wants no replies gets them after an upgrade", "proxy/handover/handover.go",
		"	case replyOff:\n		s.Set(engine.Silent)\n", "	case replyOff:\n",
		"./test", "TestUpgradeKeepsWhatClientsHaveSet",
	},
	{
		"a new client gets the id of one that has gone over", "proxy/engine/session.go",
		"	w.lastID = max(w.lastID, id/uint64(w.Options.Workers)+1)\n", "",
		"./test", "TestUpgradeKeepsWhatClientsHaveSet",
	},
	{
		"the beginning of a message stays in the old process", "pool/feed.go",
		"	l.Received(part, now)\n", "",
		"./pool", "TestFeedGoesOnElsewhere",
	},
	{
		"a feed goes over while a command is not written", "pool/feed.go",
		"f.state == Ready && len(f.queue.next()) == 0", "f.state == Ready",
		"./pool", "TestFeedGoesOnElsewhere",
	},
	{
		"the old process forgets the feeds when the new one has failed", "proxy/pubsub/carry.go",
		"		h.feeds[n] = f\n", "",
		"./test", "TestUpgradeFailsBeforeTheNewProcessServes",
	},
	{
		"a subscriber that is left behind stays, and gets nothing", "server/handover.go",
		"	for _, c := range others {\n		c.close()\n	}\n", "",
		"./test", "TestUpgradeFailsBeforeTheNewProcessServes",
	},
	{
		"a reload changes a process that makes way for another", "daemon/running.go",
		"	if r.upgrading.Load() {\n		r.log", "	if false {\n		r.log",
		"./test", "TestUpgradeFailsWhenTheNewProcessServes",
	},
	{
		"a new process ends with the old one", "server/takeover.go",
		"			for _, s := range pools { // it has not let them serve, and never will\n" +
			"				serve(s, 0)\n			}\n",
		"			if err != nil {\n				panic(err)\n			}\n",
		"./test", "TestUpgradeWhenTheOldProcessIsKilled",
	},
	{
		"what the old process has told is lost at its end", "upgrade/conn.go",
		"_ = c.unix.CloseRead() }", "_ = c.unix.Close() }",
		"./upgrade", "TestLastMessages",
	},
	{
		"the new process takes the sockets of systemd for its own", "upgrade/start.go",
		"\"WATCHDOG_PID\", \"LISTEN_PID\", \"LISTEN_FDS\", \"LISTEN_FDNAMES\"", "\"WATCHDOG_PID\"",
		"./upgrade", "TestStartedProgramGetsNoSocketsOfSystemd",
	},
}
