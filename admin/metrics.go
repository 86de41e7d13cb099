package admin

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
)

// poolCollector turns the counters of a pool's workers into metrics.
type poolCollector struct {
	ctx     context.Context // for reading the counters
	backend Backend
	o       Options
	process chan<- prometheus.Metric // for what belongs to the process; nil: another pool exports it
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("keyway_"+name, help, labels, nil)
}

var (
	descInfo       = desc("info", "1, with keyway's version and layout as labels.", "version", "layout")
	descUptime     = desc("uptime_seconds", "Seconds since keyway started.")
	descLogDropped = desc("log_lines_dropped_total",
		"Log lines that were dropped because the reader of the log was too slow.")
	descTraces = desc("traces_total",
		"Traces of commands, by result. failed: the collector did not take them. dropped: too many waited.", "result")
	descAccessLines = desc("access_log_lines_total",
		"Lines of the access log, by result. failed: the file could not be written. dropped: too many waited.",
		"result")
	descSampled = desc("node_keys_sampled",
		"Keys of the node that keyway looked at last, at start or within the hour.", "node", "addr")
	descElsewhere = desc("node_keys_elsewhere",
		"Sampled keys that clients do not find, because the layout places them on another node.", "node", "addr")
	descMisplaced = desc("misplaced_keys_ratio",
		"The share of the node's keys that clients do not find, because the layout places them on another node.",
		"node")
	descCertificate = desc("tls_certificate_expiry_timestamp_seconds",
		"When the first certificate of the file expires, in seconds since 1970.", "file")
	descPasswordRuns = desc("password_command_runs_total",
		"How often the command has run that prints a password.", "key")
	descPasswordFailures = desc("password_command_failures_total",
		"How often the command has failed that prints a password. The last password stays.", "key")
	descPasswordPrinted = desc("password_command_printed_timestamp_seconds",
		"When the command last printed the password, in seconds since 1970.", "key")
	descDisagreeing = desc("disagreeing_keyways",
		"Other keyways that serve the same nodes by another placement.")
	descEpoch = desc("layout_epoch",
		"The epoch of the layout that keyway serves by, as the nodes' registers say; 0: they have none.")
	descNotOfFile = desc("layout_not_of_file",
		"1 if the nodes' registers say that another layout is in force than that of the file.")
	descSwitchEpoch = desc("switch_epoch",
		"The epoch of the change of the layout that is under way; 0: there is none.")
	descSwitchState = desc("switch_state", "1 for the state of this keyway in a change of the layout.", "state")
	descSwitchMoves = desc("switch_moves_keys", "1 while this keyway moves the keys that clients do not use.")
	descSwitchLeft  = desc("switch_keys_left",
		"How many keys are left to move, as the keyway estimates that moves them. The same at all keyways.")
	descSwitchRate = desc("switch_keys_per_second",
		"How fast keys move that clients do not use, as the keyway says that moves them. The same at all keyways.")
	descSwitchWaits = desc("switch_waits",
		"1 while the keys of the change do not move, or nobody can say; keyway status says why. The same "+
			"at all keyways.")

	// counted describes what the threads count.
	counted = func() map[*metrics.Metric]*prometheus.Desc {
		of := map[*metrics.Metric]*prometheus.Desc{}
		for _, m := range metrics.All() {
			of[m] = desc(m.Name, m.Help, m.Labels...)
		}
		return of
	}()
)

// Describe says nothing, which makes the collector an unchecked one: its
// metrics depend on what happened.
func (c poolCollector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the counters of all threads and adds them up.
func (c poolCollector) Collect(out chan<- prometheus.Metric) {
	shots, err := c.backend.Snapshot(c.ctx)
	if err != nil || len(shots) == 0 {
		out <- prometheus.NewInvalidMetric(descInfo, err)
		return
	}
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	all := metrics.Sum(shots)
	gauge(descInfo, 1, c.o.Version, all.Layout)
	if c.o.Guarded != nil {
		for _, n := range c.o.Guarded() {
			gauge(descSampled, float64(n.Sampled), n.Name, n.Addr)
			gauge(descElsewhere, float64(n.Elsewhere), n.Name, n.Addr)
			gauge(descMisplaced, n.Ratio, n.Name)
		}
	}
	if c.o.Certificates != nil {
		for _, f := range c.o.Certificates() {
			gauge(descCertificate, float64(f.NotAfter.Unix()), f.File)
		}
	}
	if c.o.Passwords != nil {
		for _, p := range c.o.Passwords() {
			counter(descPasswordRuns, p.Runs, p.Key)
			counter(descPasswordFailures, p.Failures, p.Key)
			gauge(descPasswordPrinted, float64(p.Printed.Unix()), p.Key)
		}
	}
	if c.o.Disagreeing != nil {
		gauge(descDisagreeing, float64(c.o.Disagreeing()))
	}
	if c.o.InForce != nil {
		epoch, notOfFile := c.o.InForce()
		gauge(descEpoch, float64(epoch))
		gauge(descNotOfFile, map[bool]float64{true: 1}[notOfFile])
	}
	if c.o.Switch != nil {
		collectSwitch(c.o.Switch(), out)
	}
	c.o.collectLocks(c.ctx, out)
	c.o.collectHotKeys(c.ctx, out)
	all.Each(nameOf, func(s metrics.Sample) { out <- export(s) })
	if c.process != nil {
		all.EachThread(func(s metrics.Sample) { c.process <- export(s) })
	}
}

// collectSwitch exports how the keyway takes part in changes of the layout.
func collectSwitch(s Switch, out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	gauge(descSwitchEpoch, float64(s.Epoch))
	gauge(descSwitchState, 1, s.State)
	for m, d := range counted {
		switch m.Name {
		case "switch_moved_total":
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(s.Moved), "mover")
		case "switch_conflicts_total":
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(s.Conflicts), "mover")
		}
	}
	if s.Epoch == 0 {
		return
	}
	flag := map[bool]float64{true: 1}
	gauge(descSwitchMoves, flag[s.Moves])
	gauge(descSwitchWaits, flag[s.Waits])
	if s.Rate >= 0 {
		gauge(descSwitchRate, float64(s.Rate))
	}
	if s.Left >= 0 {
		gauge(descSwitchLeft, float64(s.Left))
	}
}

// collectProcess exports what belongs to the process.
func (o Options) collectProcess(started time.Time, out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(descUptime, prometheus.GaugeValue, time.Since(started).Seconds())
	if o.DroppedLines != nil {
		out <- prometheus.MustNewConstMetric(descLogDropped, prometheus.CounterValue, float64(o.DroppedLines()))
	}
	if o.Followed != nil {
		all := o.Followed()
		count := func(d *prometheus.Desc, result string, n uint64) {
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), result)
		}
		for _, of := range []struct {
			desc *prometheus.Desc
			done string
			Outcomes
		}{{descTraces, "sent", all.Traces}, {descAccessLines, "written", all.Lines}} {
			count(of.desc, of.done, of.Done)
			count(of.desc, "failed", of.Failed)
			count(of.desc, "dropped", of.Dropped)
		}
	}
}

// nameOf returns the name of a command or of a command family.
func nameOf(by string, i int) string {
	if by == "family" {
		return command.FamilyNames[i]
	}
	return command.NameOf(i)
}

func export(s metrics.Sample) prometheus.Metric {
	d := counted[s.Metric]
	switch {
	case s.Histogram != nil:
		return latencies{d, s.Histogram, 1, 1, s.Labels}
	case s.Sizes != nil:
		return sizes(d, s.Sizes, s.Labels...)
	case s.Counter:
		return prometheus.MustNewConstMetric(d, prometheus.CounterValue, s.Value, s.Labels...)
	}
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, s.Value, s.Labels...)
}
