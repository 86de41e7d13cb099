package metrics

import (
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Metric is one name in /metrics.
type Metric struct {
	Name, Help string
	Counter    bool     // the value never decreases
	Labels     []string // the names of the labels
}

// Sample is a metric's value for one set of labels.
type Sample struct {
	*Metric
	Labels    []string // the values of the labels
	Value     float64  // unused if Histogram or Sizes is set
	Histogram *Histogram
	Sizes     *Sizes
}

// row is a field with its decoded tags.
type row struct {
	index     []int // the field's index, for package reflect
	metric    *Metric
	value     string // the value in the label tag
	by        string
	replicas  bool // only replicas have it
	limits    bool // only users with limits have it
	info, own string
}

var (
	byName     = map[string]*Metric{}
	threadRows = rows(reflect.TypeFor[Snapshot]())
	nodeRows   = rows(reflect.TypeFor[Node](), "node", "addr")
	lockRows   = rows(reflect.TypeFor[LockNode](), "addr")
	ruleRows   = rows(reflect.TypeFor[LockRule](), "match")
	loopRows   = rows(reflect.TypeFor[Thread](), "thread")
	userRows   = rows(reflect.TypeFor[User](), "user")
)

// All returns every metric that a snapshot can have samples of.
func All() []*Metric {
	var all []*Metric
	for _, m := range byName {
		all = append(all, m)
	}
	return all
}

func rows(t reflect.Type, labels ...string) (table []row) {
	for _, f := range reflect.VisibleFields(t) {
		r := row{index: f.Index, by: f.Tag.Get("by"), replicas: f.Tag.Get("of") == "replicas",
			limits: f.Tag.Get("of") == "limits", info: f.Tag.Get("info"), own: f.Tag.Get("own")}
		if name := f.Tag.Get("metric"); name != "" {
			label, value, _ := strings.Cut(f.Tag.Get("label"), "=")
			if r.value = value; r.by != "" {
				label = r.by
			}
			if r.metric = byName[name]; r.metric == nil {
				r.metric = &Metric{Name: name, Help: help[name], Counter: isCounter(f.Type), Labels: labels}
				if label != "" {
					r.metric.Labels = append(labels[:len(labels):len(labels)], label)
				}
				byName[name] = r.metric
			}
		}
		if r.metric != nil || r.info != "" || r.own != "" {
			table = append(table, r)
		}
	}
	return table
}

func isCounter(t reflect.Type) bool {
	return t.Kind() == reflect.Uint64 || t == reflect.TypeFor[[]uint64]() || t == reflect.TypeFor[Seconds]() ||
		t == reflect.TypeFor[ErrorReplies]()
}

// Each calls f with all samples. nameOf returns the name of the command or family with
// index i. Each leaves out commands without calls, errors and histograms of what has not happened, and
// replicas that keyway has not dialed. [Snapshot.EachThread] has the threads.
func (s *Snapshot) Each(nameOf func(by string, i int) string, f func(Sample)) {
	v := reflect.ValueOf(s).Elem()
	for _, r := range threadRows {
		switch of := v.FieldByIndex(r.index); {
		case r.metric == nil:
		case r.by == "family":
			for i := range s.Families {
				if h := &s.Families[i]; h.Count > 0 {
					f(Sample{Metric: r.metric, Labels: []string{nameOf(r.by, i)}, Histogram: h})
				}
			}
		case of.Type() == reflect.TypeFor[[]*Histogram]():
			for i, h := range s.Commands {
				if h != nil {
					f(Sample{Metric: r.metric, Labels: []string{nameOf(r.by, i)}, Histogram: h})
				}
			}
		case r.by != "":
			for i := range s.Calls {
				if s.Calls[i] > 0 {
					f(Sample{Metric: r.metric, Labels: []string{nameOf(r.by, i)}, Value: float(of.Index(i))})
				}
			}
		default:
			unlessEmpty(r.sample(of), f)
		}
	}
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Master || n.Dials > 0 {
			n.each(f)
		}
	}
	for i := range s.Locks {
		n := &s.Locks[i]
		of := reflect.ValueOf(n).Elem()
		for _, r := range lockRows {
			f(r.sample(of.FieldByIndex(r.index), n.Addr))
		}
	}
	for i := range s.Rules {
		of := reflect.ValueOf(&s.Rules[i]).Elem()
		for _, r := range ruleRows {
			f(r.sample(of.FieldByIndex(r.index), s.Rules[i].Match))
		}
	}
	for i := range s.Users {
		of := reflect.ValueOf(&s.Users[i]).Elem()
		for _, r := range userRows {
			if s.Users[i].HasLimits || !r.limits {
				unlessEmpty(r.sample(of.FieldByIndex(r.index), s.Users[i].Name), f)
			}
		}
	}
}

// EachThread calls f with all samples of the threads, which belong to no single pool.
func (s *Snapshot) EachThread(f func(Sample)) {
	for i := range s.Threads {
		of := reflect.ValueOf(&s.Threads[i]).Elem()
		for _, r := range loopRows {
			f(r.sample(of.FieldByIndex(r.index), strconv.Itoa(s.Threads[i].Index)))
		}
	}
}

func (n *Node) each(f func(Sample)) {
	v := reflect.ValueOf(n).Elem()
	for _, r := range nodeRows {
		switch {
		case r.metric == nil || r.replicas && n.Master:
		case r.by == "error":
			for i, count := range n.Errors {
				if count > 0 {
					f(Sample{Metric: r.metric, Labels: []string{n.Name, n.Addr, ErrorWords[i]}, Value: float64(count)})
				}
			}
		default:
			unlessEmpty(r.sample(v.FieldByIndex(r.index), n.Name, n.Addr), f)
		}
	}
}

// unlessEmpty calls f with a sample, unless it is a histogram of what has not happened.
func unlessEmpty(s Sample, f func(Sample)) {
	if s.Histogram == nil || s.Histogram.Count > 0 {
		f(s)
	}
}

func (r *row) sample(of reflect.Value, labels ...string) Sample {
	if r.value != "" {
		labels = append(labels, r.value)
	}
	if h, ok := of.Addr().Interface().(*Histogram); ok {
		return Sample{Metric: r.metric, Labels: labels, Histogram: h}
	}
	if sizes, ok := of.Addr().Interface().(*Sizes); ok {
		return Sample{Metric: r.metric, Labels: labels, Sizes: sizes}
	}
	return Sample{Metric: r.metric, Labels: labels, Value: float(of)}
}

func float(v reflect.Value) float64 {
	if s, ok := v.Interface().(Seconds); ok {
		return time.Duration(s).Seconds()
	}
	if d, ok := v.Interface().(time.Duration); ok {
		if d == math.MaxInt64 {
			return math.Inf(1)
		}
		return d.Seconds()
	}
	switch {
	case v.CanUint():
		return float64(v.Uint())
	case v.CanInt():
		return float64(v.Int())
	case v.Bool():
		return 1
	}
	return 0
}

// Info calls f with each field of INFO that has keyway's own count instead of the nodes'.
func (s *Snapshot) Info(f func(name string, value uint64)) {
	s.fields(func(r row) string { return r.info }, f)
}

// Own calls f with each field of INFO's section Keyway that comes from a snapshot.
func (s *Snapshot) Own(f func(name string, value uint64)) {
	s.fields(func(r row) string { return r.own }, f)
}

func (s *Snapshot) fields(nameIn func(row) string, f func(name string, value uint64)) {
	v := reflect.ValueOf(s).Elem()
	for _, r := range threadRows {
		if name := nameIn(r); name != "" {
			f(name, total(v.FieldByIndex(r.index)))
		}
	}
}

func total(v reflect.Value) (n uint64) {
	if v.Kind() == reflect.Slice {
		for i := range v.Len() {
			n += v.Index(i).Uint()
		}
		return n
	}
	return uint64(float(v))
}
