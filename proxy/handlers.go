package proxy

import "github.com/keyway-proxy/keyway/command"

func init() {
	mayBlock, queueInMulti = sendBlocking, queue
	newFeatures = func(w *Worker) []feature {
		return []feature{
			newHub(w), &monitors{w: w}, newTrackers(w), blockedClients{w: w}, transactions{w: w}, &pauses{w: w},
		}
	}
}

func init() {
	handlers = [command.Actions]handler{
		command.DoSort: {check: refuseForeignPatterns},

		command.DoScriptLoad:      {before: func(w *Worker, a command.Args) { w.scripts.learn(a.Arg(2)) }},
		command.DoScriptFlush:     {before: func(w *Worker, _ command.Args) { w.scripts.forget() }},
		command.DoScriptExists:    {end: scriptsExist, record: recordKnown},
		command.DoScriptShow:      {answer: scriptShow},
		command.DoRunning:         {answer: running},
		command.DoNumSub:          {end: subscribers},
		command.DoConfigSet:       {changes: ownSettings},
		command.DoConfigResetStat: {changes: resetStats},
		command.DoConfigGet:       {answer: configGet},
		command.DoInfo:            {answer: serverInfo},
		command.DoScan:            {answer: scanMasters},
		command.DoWait:            {answer: wait},

		command.DoPing:   {answer: ping},
		command.DoEcho:   {answer: echo},
		command.DoQuit:   {answer: quit},
		command.DoReset:  {answer: reset},
		command.DoTime:   {answer: clock},
		command.DoSelect: {answer: selectDB},
		command.DoRole:   {answer: role},
		command.DoAuth:   {answer: auth},
		command.DoHello:  {answer: hello},
		command.DoWhoAmI: {answer: whoAmI},

		command.DoMulti:   {answer: multi},
		command.DoExec:    {answer: exec},
		command.DoDiscard: {answer: discard},
		command.DoWatch:   {answer: watch},
		command.DoUnwatch: {answer: unwatch},

		command.DoPublish:      {answer: publishTo},
		command.DoSubscribe:    {answer: listenTo(byChannel)},
		command.DoPSubscribe:   {answer: listenTo(byPattern)},
		command.DoSSubscribe:   {answer: listenTo(byShard)},
		command.DoUnsubscribe:  {answer: noLongerTo(byChannel)},
		command.DoPUnsubscribe: {answer: noLongerTo(byPattern)},
		command.DoSUnsubscribe: {answer: noLongerTo(byShard)},

		command.DoClientID:           {answer: clientID},
		command.DoClientGetName:      {answer: clientGetName},
		command.DoClientSetName:      {answer: clientSetName},
		command.DoClientSetInfo:      {answer: clientSetInfo},
		command.DoClientInfo:         {answer: clientInfo},
		command.DoClientList:         {answer: clientList},
		command.DoClientHelp:         {answer: clientHelp},
		command.DoClientReply:        {answer: clientReply},
		command.DoClientKill:         {answer: clientKill},
		command.DoClientPause:        {answer: clientPause},
		command.DoClientUnpause:      {answer: clientUnpause},
		command.DoClientUnblock:      {answer: clientUnblock},
		command.DoClientTracking:     {answer: clientTracking},
		command.DoClientTrackingInfo: {answer: clientTrackingInfo},
		command.DoClientCaching:      {answer: clientCaching},
		command.DoClientGetRedir:     {answer: clientGetRedir},
		command.DoClientNoEvict:      {answer: noEvict},
		command.DoClientNoTouch:      {answer: touches},
		command.DoClientCapa:         {answer: ofValkey(yes)},
		command.DoClientImportSource: {answer: importSource},

		command.DoMonitor:          {answer: monitor},
		command.DoSlowLogGet:       {answer: slowLogGet},
		command.DoSlowLogLen:       {answer: slowLogLen},
		command.DoSlowLogReset:     {answer: slowLogReset},
		command.DoSlowLogHelp:      {answer: slowLogHelp},
		command.DoCommandLogGet:    {answer: commandLogGet},
		command.DoCommandLogLen:    {answer: commandLogLen},
		command.DoCommandLogReset:  {answer: commandLogReset},
		command.DoLatencyLatest:    {answer: latencyLatest},
		command.DoLatencyHistory:   {answer: latencyHistory},
		command.DoLatencyReset:     {answer: latencyReset},
		command.DoLatencyDoctor:    {answer: latencyDoctor},
		command.DoLatencyGraph:     {answer: latencyGraph},
		command.DoLatencyHistogram: {answer: latencyHistogram},
		command.DoLatencyHelp:      {answer: latencyHelp},

		command.DoReadOnly:              {emulated: yes, onReplicas: readsFromReplicas},
		command.DoReadWrite:             {emulated: yes, onReplicas: readsFromMasters},
		command.DoAsking:                {emulated: yes},
		command.DoClusterSlots:          {emulated: clusterSlots},
		command.DoClusterShards:         {emulated: clusterShards},
		command.DoClusterNodes:          {emulated: clusterNodes},
		command.DoClusterInfo:           {emulated: clusterInfo},
		command.DoClusterMyID:           {emulated: clusterMyID},
		command.DoClusterKeySlot:        {emulated: clusterKeySlot},
		command.DoKeysInSlot:            {emulated: keysInSlot},
		command.DoClusterReplicas:       {emulated: clusterReplicas},
		command.DoClusterFailureReports: {emulated: clusterFailureReports},
		command.DoClusterLinks:          {emulated: noneOfThem},
		command.DoClusterHelp:           {emulated: clusterHelp},
	}
}
