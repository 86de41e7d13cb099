package proxy

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/emulation"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
)

// The handlers below answer the commands of cluster clients where keyway emulates a
// cluster.

// yes answers OK.
func yes(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
}

func clusterSlots(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return s.reply(cmd, w.o.Cluster.AppendSlots(w.scratch[:0]))
}

func clusterShards(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return s.reply(cmd, w.o.Cluster.AppendShards(w.scratch[:0], s.protocol()))
}

func clusterNodes(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return s.reply(cmd, s.protocol().AppendText(w.scratch[:0], w.o.Cluster.Nodes()))
}

func clusterInfo(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return s.reply(cmd, s.protocol().AppendText(w.scratch[:0], w.o.Cluster.Info()))
}

func clusterMyID(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return s.reply(cmd, resp.AppendBulkString(w.scratch[:0], w.o.Cluster.ID()))
}

func clusterKeySlot(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	return s.reply(cmd, resp.AppendInt(w.scratch[:0], int64(slots.Of(a.Arg(2)))))
}

// clusterReplicas answers CLUSTER REPLICAS with an empty list: a keyway has no replicas.
func clusterReplicas(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if !w.o.Cluster.HasMember(a.Arg(2)) {
		return s.answerError(cmd, errtext.UnknownNode(a.Arg(2)))
	}
	return noneOfThem(w, s, cmd, a)
}

// clusterFailureReports answers CLUSTER COUNT-FAILURE-REPORTS with 0: keyways do not watch
// each other.
func clusterFailureReports(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if !w.o.Cluster.HasMember(a.Arg(2)) {
		return s.answerError(cmd, errtext.UnknownNode(a.Arg(2)))
	}
	return s.reply(cmd, resp.AppendInt(w.scratch[:0], 0))
}

// noneOfThem answers with an empty list.
func noneOfThem(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return s.reply(cmd, resp.AppendArray(w.scratch[:0], 0))
}

func clusterHelp(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return help(w, s, cmd, "CLUSTER", emulation.Help...)
}
