package command

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// INFO of several nodes becomes that of one: what is counted is added up, what is
// a height or a share is that of the node where it is highest, what describes a
// server is the first node's. A cluster's nodes say that they are one; to its
// clients keyway is one Redis.

// infoRule says how a field's values become one.
type infoRule uint8

const (
	infoFirst infoRule = iota
	infoSum
	infoMax
	infoMin
	infoWorst // the first that is not "ok"
)

// infoRules are the fields that are not merged as their section is. Of those that
// begin or end alike one stands for all, with a * in the place of the rest.
var infoRules = []struct {
	rule  infoRule
	names string
}{
	{infoMax, `*_perc *_percentage *_ratio *_in_progress *_scheduled aof_enabled loading async_loading lru_clock total_system_memory client_recent_max_* current_* active_defrag_running
		rdb_last_bgsave_time_sec aof_last_rewrite_time_sec rdb_last_cow_size aof_last_cow_size module_fork_last_cow_size latest_fork_usec instantaneous_eventloop_duration_usec`},
	{infoMin, "maxclients rdb_last_save_time rdb_saves_since_start"},
	{infoMin, "connected_slaves"}, // clients take it for how many WAIT can reach, whatever the key
	{infoWorst, "*_status"},
}

// infoSections are those whose numbers are added up.
var infoSections = map[string]bool{"Clients": true, "Memory": true, "Persistence": true, "Stats": true, "CPU": true, "Commandstats": true, "Errorstats": true, "Debug": true}

func infoRuleOf(section, name string) infoRule {
	for _, r := range infoRules {
		for pattern := range strings.FieldsSeq(r.names) {
			if Glob([]byte(pattern), []byte(name)) {
				return r.rule
			}
		}
	}
	switch {
	case section == "Latencystats":
		return infoMax
	case infoSections[section]:
		return infoSum
	}
	return infoFirst
}

// infoField is a field of one section, with what each node says of it.
type infoField struct {
	name   string
	values []string
}

// infoSection is one section of all nodes.
type infoSection struct {
	name   string
	fields []*infoField
	byName map[string]*infoField
}

func (s *infoSection) add(name, value string) {
	f := s.byName[name]
	if f == nil {
		f = &infoField{name: name}
		s.byName[name] = f
		s.fields = append(s.fields, f)
	}
	f.values = append(f.values, value)
}

// mergeInfo merges INFO texts.
func mergeInfo(dst []byte, parts [][]byte) []byte {
	var sections []*infoSection
	for _, p := range parts {
		text, ok := resp.Bulk(p)
		if !ok {
			return odd(dst, p)
		}
		var in *infoSection
		replicas := 0
		for line := range strings.SplitSeq(string(text), "\r\n") {
			if title, ok := strings.CutPrefix(line, "# "); ok {
				i := slices.IndexFunc(sections, func(s *infoSection) bool { return s.name == title })
				if i < 0 {
					i = len(sections)
					sections = append(sections, &infoSection{name: title, byName: map[string]*infoField{}})
				}
				in = sections[i]
				continue
			}
			name, value, ok := strings.Cut(line, ":")
			if !ok || in == nil {
				continue
			}
			if in.name == "Replication" && isReplica(name) { // every node counts them from 0
				for in.byName["slave"+strconv.Itoa(replicas)] != nil {
					replicas++
				}
				name = "slave" + strconv.Itoa(replicas)
			}
			in.add(name, value)
		}
	}
	var b bytes.Buffer
	for i, s := range sections {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("# " + s.name + "\r\n")
		if s.name == "Keyspace" {
			slices.SortFunc(s.fields, func(x, y *infoField) int { return strings.Compare(x.name, y.name) })
		}
		for _, f := range s.fields {
			fmt.Fprintf(&b, "%s:%s\r\n", f.name, s.merge(f))
		}
	}
	if parts[0][0] == '=' {
		return resp.AppendVerbatim(dst, b.Bytes())
	}
	return resp.AppendBulk(dst, b.Bytes())
}

// isReplica tells whether a field of the Replication section is of a replica.
func isReplica(name string) bool {
	n, ok := strings.CutPrefix(name, "slave")
	_, err := strconv.Atoi(n)
	return ok && err == nil
}

func (s *infoSection) merge(f *infoField) string {
	switch f.name {
	case "redis_mode", "server_mode":
		return "standalone"
	case "cluster_enabled":
		return "0"
	}
	if base, ok := strings.CutSuffix(f.name, "_human"); ok && s.byName[base] != nil {
		if n, err := strconv.ParseFloat(s.merge(s.byName[base]), 64); err == nil {
			return human(n)
		}
	}
	first := f.values[0]
	rule := infoRuleOf(s.name, f.name)
	switch {
	case len(f.values) == 1 && s.name != "Keyspace":
		return first
	case s.name == "Keyspace", strings.Contains(first, "=") && rule != infoFirst:
		return mergeFields(f.values, rule)
	case rule == infoWorst:
		for _, v := range f.values {
			if v != "ok" {
				return v
			}
		}
		return first
	case rule == infoFirst:
		return first
	}
	merged, ok := mergeDecimals(f.values, rule)
	if !ok {
		return first
	}
	return merged
}

// mergeDecimals merges numbers, written as the most exact of them is.
func mergeDecimals(values []string, rule infoRule) (merged string, ok bool) {
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
		case rule == infoMax:
			acc = max(acc, n)
		case rule == infoMin:
			acc = min(acc, n)
		default:
			acc += n
		}
	}
	return strconv.FormatFloat(acc, 'f', places, 64) + unit, true
}

// mergeFields merges values such as "keys=1,expires=0,avg_ttl=0".
func mergeFields(values []string, rule infoRule) string {
	s := &infoSection{byName: map[string]*infoField{}}
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			name, value, _ := strings.Cut(part, "=")
			s.add(name, value)
		}
	}
	if rule == infoFirst {
		rule = infoSum
	}
	merged := map[string]string{}
	for _, f := range s.fields {
		if merged[f.name], _ = mergeDecimals(f.values, rule); merged[f.name] == "" {
			merged[f.name] = f.values[0]
		}
	}
	if s.byName["avg_ttl"] != nil && len(values) > 1 {
		merged["avg_ttl"] = "0" // an average does not add up, and this is what Redis writes when it has none
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

// human writes a number of bytes as Redis does for people (util.c,
// bytesToHuman).
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
