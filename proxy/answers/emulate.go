package answers

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/emulation"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
)

// The handlers below answer the commands of cluster clients where keyway emulates a
// cluster.

// replyOK answers OK.
func replyOK(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
}

func clusterSlots(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, w.Options.Cluster.AppendSlots(w.Scratch[:0]))
}

func clusterShards(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, w.Options.Cluster.AppendShards(w.Scratch[:0], s.Protocol()))
}

func clusterNodes(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, s.Protocol().AppendText(w.Scratch[:0], w.Options.Cluster.Nodes()))
}

func clusterInfo(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, s.Protocol().AppendText(w.Scratch[:0], w.Options.Cluster.Info()))
}

func clusterMyID(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, resp.AppendBulkString(w.Scratch[:0], w.Options.Cluster.ID()))
}

func clusterKeySlot(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	return s.Reply(cmd, resp.AppendInt(w.Scratch[:0], int64(slots.Of(a.Arg(2)))))
}

// clusterReplicas answers CLUSTER REPLICAS with an empty list: a keyway has no replicas.
func clusterReplicas(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if !w.Options.Cluster.HasMember(a.Arg(2)) {
		return s.AnswerError(cmd, errtext.UnknownNode(a.Arg(2)))
	}
	return replyNone(w, s, cmd, a)
}

// clusterFailureReports answers CLUSTER COUNT-FAILURE-REPORTS with 0: keyways do not watch
// each other.
func clusterFailureReports(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if !w.Options.Cluster.HasMember(a.Arg(2)) {
		return s.AnswerError(cmd, errtext.UnknownNode(a.Arg(2)))
	}
	return s.Reply(cmd, resp.AppendInt(w.Scratch[:0], 0))
}

// replyNone answers with an empty list.
func replyNone(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return s.Reply(cmd, resp.AppendArray(w.Scratch[:0], 0))
}

func clusterHelp(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return help(w, s, cmd, "CLUSTER", emulation.Help...)
}

func readsFromReplicas(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	s.Clear(engine.OptedOut)
	s.Set(engine.OptedIn)
	w.Reads.Decide(s)
	return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
}

func readsFromMasters(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	s.Clear(engine.OptedIn)
	s.Set(engine.OptedOut)
	w.Reads.Decide(s)
	return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
}
