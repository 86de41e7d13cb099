package info

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// The INFO texts of several nodes are merged into one. Counts are added. Peaks and times
// are the highest of any node. Ratios are computed from the sums. Fields that describe a
// server are the first node's. Fields about a cluster are those of a server without one,
// because keyway looks like a single Redis to its clients.

// mergeRule says how the values of a field are merged.
type mergeRule uint8

const (
	takeFirst mergeRule = iota
	takeSum
	takeMax
	takeMin
	takeWorst // the first value that is not "ok"
	takeLimit // the sum, or 0 if a node has no limit (0)
	takeNone  // always 0, because a single Redis has none of these
)

// fieldRules are the fields with another rule than their section. They cover Redis 7.0 to
// 8 and Valkey 9. A * matches anything.
var fieldRules = []struct {
	rule  mergeRule
	names string
}{
	{takeMax, `*_perc *_percentage *_ratio *_in_progress *_scheduled *_time_sec *_peak_time *_cow_size
		*_eta_seconds *_consecutive_failures
		aof_enabled aof_pending_rewrite loading async_loading lru_clock total_system_memory
		client_recent_max_* current_* active_defrag_running
		latest_fork_usec instantaneous_eventloop_* number_of_* engines_count
		pubsub_channels pubsub_patterns tracking_total_prefixes`}, // the last three are the same on every node
	{takeMin, "maxclients rdb_last_save_time loading_start_time"},
	{takeMin, "connected_slaves"}, // clients use it as the number that WAIT can reach, for any key
	{takeWorst, "*_status"},
	{takeLimit, "maxmemory"},
	{takeNone, "cluster_connections cluster_enabled"},
	{takeFirst, "paused_* repl_backlog_* mem_allocator"},
}

// sectionRules are the rules for the fields of a section that have no rule of their own.
// The fields of all other sections are the first node's.
var sectionRules = map[string]mergeRule{
	"Clients": takeSum, "Memory": takeSum, "Persistence": takeSum, "Stats": takeSum, "CPU": takeSum, "Debug": takeSum,
	"Commandstats": takeSum, "Errorstats": takeSum, "Keysizes": takeSum, "Latencystats": takeMax,
}

// quotients are fields that are quotients: part / (whole - lessWhole). Their merged value
// is computed from the merged values of these fields.
var quotients = map[string]struct{ part, whole, lessWhole string }{
	"used_memory_peak_perc":    {part: "used_memory", whole: "used_memory_peak"},
	"used_memory_dataset_perc": {part: "used_memory_dataset", whole: "used_memory", lessWhole: "used_memory_startup"},
	"allocator_frag_ratio":     {part: "allocator_active", whole: "allocator_allocated"},
	"allocator_rss_ratio":      {part: "allocator_resident", whole: "allocator_active"},
	"rss_overhead_ratio":       {part: "used_memory_rss", whole: "allocator_resident"},
	"mem_fragmentation_ratio":  {part: "used_memory_rss", whole: "used_memory"},
}

func ruleOf(section, name string) mergeRule {
	if !strings.HasSuffix(section, "stats") { // Commandstats and the like: commands and errors name their fields
		for _, r := range fieldRules {
			for pattern := range strings.FieldsSeq(r.names) {
				if command.Glob([]byte(pattern), []byte(name)) {
					return r.rule
				}
			}
		}
	}
	return sectionRules[section]
}

// field is a field of one section with the values of the nodes.
type field struct {
	name   string
	values []string
}

// section is one section, with the fields of all nodes.
type section struct {
	name   string
	fields []*field
	byName map[string]*field
}

func (s *section) add(name, value string) {
	f := s.byName[name]
	if f == nil {
		f = &field{name: name}
		s.byName[name] = f
		s.fields = append(s.fields, f)
	}
	f.values = append(f.values, value)
}

// Merge appends the reply that replies to INFO of several nodes become. If one of them is an
// error, that is the result.
func Merge(dst []byte, replies [][]byte) []byte {
	for _, r := range replies {
		if len(r) > 0 && r[0] == '-' {
			return append(dst, r...)
		}
	}
	var sections []*section
	for _, r := range replies {
		text, ok := resp.Bulk(r)
		if !ok {
			return resp.AppendError(dst, fmt.Sprintf("ERR keyway: a node's reply cannot be merged: %.40q", r))
		}
		sections = addText(sections, string(text))
	}
	var b bytes.Buffer
	for i, s := range sections {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("# " + s.name + "\r\n")
		if s.name == "Keyspace" {
			slices.SortFunc(s.fields, func(x, y *field) int { return strings.Compare(x.name, y.name) })
		}
		for _, f := range s.fields {
			after := ":"
			if s.name == "Modules" {
				after = ","
			}
			b.WriteString(f.name + after + s.merge(f) + "\r\n")
		}
	}
	if replies[0][0] == '=' {
		return resp.AppendVerbatim(dst, b.Bytes())
	}
	return resp.AppendBulk(dst, b.Bytes())
}

// addText adds the fields of one node's text to the sections.
func addText(sections []*section, text string) []*section {
	var in *section
	replicas := 0
	for line := range strings.SplitSeq(text, "\r\n") {
		if title, ok := strings.CutPrefix(line, "# "); ok {
			i := slices.IndexFunc(sections, func(s *section) bool { return s.name == title })
			if i < 0 {
				i = len(sections)
				sections = append(sections, &section{name: title, byName: map[string]*field{}})
			}
			in = sections[i]
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || in == nil {
			continue
		}
		if in.name == "Replication" && isReplica(name) { // every node counts its replicas from 0
			for in.byName["slave"+strconv.Itoa(replicas)] != nil {
				replicas++
			}
			name = "slave" + strconv.Itoa(replicas)
		}
		if in.name == "Modules" { // the lines of all modules have the same name
			module, details, _ := strings.Cut(value, ",")
			name, value = name+":"+module, details
		}
		in.add(name, value)
	}
	return sections
}

// isReplica reports whether a field of the Replication section describes a replica.
func isReplica(name string) bool {
	n, ok := strings.CutPrefix(name, "slave")
	_, err := strconv.Atoi(n)
	return ok && err == nil
}

func (s *section) merge(f *field) string {
	if f.name == "redis_mode" || f.name == "server_mode" {
		return "standalone"
	}
	if base, ok := strings.CutSuffix(f.name, "_human"); ok && s.byName[base] != nil {
		if n, err := strconv.ParseFloat(s.merge(s.byName[base]), 64); err == nil {
			return human(n)
		}
	}
	first := f.values[0]
	rule := ruleOf(s.name, f.name)
	switch {
	case rule == takeNone:
		return "0"
	case len(f.values) == 1:
		return first
	case rule == takeLimit && slices.Contains(f.values, "0"):
		return "0"
	case s.name == "Keyspace", strings.Contains(first, "=") && rule != takeFirst:
		return mergeFields(f.values, rule)
	case rule == takeWorst:
		for _, v := range f.values {
			if v != "ok" {
				return v
			}
		}
		return first
	case rule == takeFirst:
		return first
	}
	if share, ok := s.share(f.name); ok {
		return share
	}
	merged, ok := mergeDecimals(f.values, rule)
	if !ok {
		return first
	}
	return merged
}

// share computes a field of quotients. ok is false if name is not one of them, or the
// quotient cannot be computed.
func (s *section) share(name string) (text string, ok bool) {
	how, isShare := quotients[name]
	if !isShare {
		return "", false
	}
	number := func(name string) float64 {
		if s.byName[name] == nil {
			return 0
		}
		n, _ := strconv.ParseFloat(s.merge(s.byName[name]), 64)
		return n
	}
	part, whole := number(how.part), number(how.whole)
	if how.lessWhole != "" {
		whole -= number(how.lessWhole)
	}
	if part <= 0 || whole <= 0 {
		return "", false
	}
	if strings.HasSuffix(name, "_perc") {
		return strconv.FormatFloat(100*part/whole, 'f', 2, 64) + "%", true
	}
	return strconv.FormatFloat(part/whole, 'f', 2, 64), true
}

// mergeDecimals merges decimal numbers. The result has as many decimal places as the
// value with the most. ok is false if a value is not a number.
func mergeDecimals(values []string, rule mergeRule) (merged string, ok bool) {
	var acc float64
	places, unit := 0, ""
	for i, v := range values {
		number := strings.TrimRight(v, "%")
		unit = v[len(number):]
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return "", false
		}
		if _, fraction, ok := strings.Cut(number, "."); ok {
			places = max(places, len(fraction))
		}
		switch {
		case i == 0:
			acc = n
		case rule == takeMax:
			acc = max(acc, n)
		case rule == takeMin:
			acc = min(acc, n)
		default:
			acc += n
		}
	}
	return strconv.FormatFloat(acc, 'f', places, 64) + unit, true
}

// mergeFields merges values such as "keys=1,expires=0,avg_ttl=0".
func mergeFields(values []string, rule mergeRule) string {
	s := &section{byName: map[string]*field{}}
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			name, value, _ := strings.Cut(part, "=")
			s.add(name, value)
		}
	}
	if rule == takeFirst {
		rule = takeSum
	}
	merged := map[string]string{}
	for _, f := range s.fields {
		if merged[f.name], _ = mergeDecimals(f.values, rule); merged[f.name] == "" {
			merged[f.name] = f.values[0]
		}
	}
	if ttl, expires := s.byName["avg_ttl"], s.byName["expires"]; ttl != nil && expires != nil {
		merged["avg_ttl"] = average(ttl.values, expires.values)
	}
	if s.byName["usec_per_call"] != nil {
		calls, _ := strconv.ParseFloat(merged["calls"], 64)
		usec, _ := strconv.ParseFloat(merged["usec"], 64)
		merged["usec_per_call"] = strconv.FormatFloat(usec/max(calls, 1), 'f', 2, 64)
	}
	var out []string
	for _, f := range s.fields {
		out = append(out, f.name+"="+merged[f.name])
	}
	return strings.Join(out, ",")
}

// average returns the weighted average, rounded down.
func average(values, weights []string) string {
	var sum, total float64
	for i := range min(len(values), len(weights)) {
		v, _ := strconv.ParseFloat(values[i], 64)
		weight, _ := strconv.ParseFloat(weights[i], 64)
		sum += v * weight
		total += weight
	}
	return strconv.FormatFloat(math.Floor(sum/max(total, 1)), 'f', 0, 64)
}

// human formats a number of bytes as Redis does (util.c, bytesToHuman).
func human(n float64) string {
	const units = "BKMGTP"
	i := 0
	for n >= 1024 && i < len(units)-1 {
		n /= 1024
		i++
	}
	if i == 0 {
		return strconv.Itoa(int(math.Round(n))) + "B"
	}
	return strconv.FormatFloat(n, 'f', 2, 64) + units[i:i+1]
}
