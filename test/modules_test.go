package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// aboutSeries are commands of RedisTimeSeries that look for series by their labels.
var aboutSeries = []string{
	"TS.MGET FILTER kind=t", "TS.MGET WITHLABELS FILTER kind=t", "TS.MGET FILTER kind=none",
	"TS.MRANGE - + FILTER kind=t", "TS.MRANGE - + WITHLABELS COUNT 1 FILTER kind=t n=2",
	"TS.MREVRANGE - + FILTER kind=t",
	"TS.QUERYINDEX kind=t", "TS.QUERYINDEX kind=none", "TS.MRANGE - + FILTER", "TS.MGET",
}

// TestModulesLikeRedis: commands of modules whose own specifications do not name
// all keys have the same replies over several nodes as from one Redis.
func TestModulesLikeRedis(t *testing.T) {
	t.Parallel()
	nodes, oracle := redistest.Stack.Three(t), redistest.Stack.Start(t)
	for name, yaml := range redistest.Layouts(nodes) {
		if name == "range" {
			continue // its rules are for other keys
		}
		for _, protocol := range []string{"2", "3"} {
			t.Run(name+protocol, func(t *testing.T) {
				for _, n := range append(nodes, oracle) {
					n.Do("FLUSHALL")
				}
				ours, theirs := redistest.Serve(t, yaml).Ready().Dial(), redistest.Dial(t, oracle.Addr)
				ours.MustDo("HELLO", protocol)
				theirs.MustDo("HELLO", protocol)
				same := func(words string) {
					t.Helper()
					args := strings.Fields(words)
					got, want := ours.Do(args...), theirs.Do(args...)
					if got.String() != want.String() || got.Kind != want.Kind {
						t.Errorf("%s:\nkeyway says %s\nRedis says  %s", words, got, want)
					}
				}
				same(`JSON.MSET a $ {"n":1} b $ {"n":2} c $ {"n":3} d $ {"n":4}`)
				same("JSON.MGET a b c d none $.n")
				same("JSON.MGET a $.n")
				same("JSON.MGET a")
				same("JSON.MGET")
				same(`JSON.MSET a $ {"n":1} b $`)
				same("TS.MADD ts0 1 10 ts1 1 11 ts2 1 12 none 1 1 ts3 2 13 ts0 2 x")
				for i := range 6 {
					same(fmt.Sprintf("TS.CREATE ts%d LABELS kind t n %d", i, i%3))
				}
				same("TS.MADD ts0 1 10 ts1 1 11 ts2 1 12 none 1 1 ts3 2 13 ts0 2 x")
				for _, words := range aboutSeries {
					same(words)
				}
				same("CMS.INITBYDIM {m}a 100 3")
				same("CMS.INITBYDIM {m}b 100 3")
				same("CMS.MERGE {m}a 1 {m}b WEIGHTS 2")
				same("TDIGEST.CREATE {m}t")
				same("TDIGEST.MERGE {m}t 1 {m}t")
				same("TS.CREATE {m}x")
				same("TS.CREATE {m}y")
				same("TS.CREATERULE {m}x {m}y AGGREGATION avg 10")
				same("TS.DELETERULE {m}x {m}y")
				same("BF.ADD f x")
				same("TOPK.RESERVE top 5")
				same("FT.SUGADD sug hello 1")
				same("FT.SUGGET sug he")
				for words := range strings.FieldsSeq("JSON.GET JSON.SET BF.ADD TS.ADD CMS.QUERY TOPK.LIST FT.SUGADD") {
					for _, words := range []string{words, "MULTI", words, "EXEC"} {
						same(words) // modules count the arguments themselves
					}
				}
			})
		}
	}
}

// TestModulesThatNeedAllData: a command whose reply cannot be merged from those of several
// nodes is refused, with the reason. With one node it works.
func TestModulesThatNeedAllData(t *testing.T) {
	nodes := redistest.Stack.Three(t)
	c := redistest.Serve(t, redistest.Layouts(nodes)["ring"]).Ready().Dial()
	for _, words := range []string{
		"FT.CREATE i SCHEMA n TEXT", "FT.SEARCH i *", "FT._LIST", "FT.INFO i",
		"TS.MRANGE - + FILTER kind=t GROUPBY n REDUCE sum",
	} {
		r := c.Do(strings.Fields(words)...)
		if r.Kind != '-' || !strings.Contains(r.Text, "is refused: ") || !strings.Contains(r.Text, "nodes") {
			t.Errorf("%s: %s", words, r)
		}
	}
	keys := apart(t, redistest.Serve(t, redistest.Layouts(nodes)["ring"]).Ready(), nodes)
	for _, words := range []string{
		"CMS.MERGE %s 1 %s", "TDIGEST.MERGE %s 1 %s", "TS.CREATERULE %s %s AGGREGATION avg 10",
	} {
		words = fmt.Sprintf(words, keys[0], keys[1])
		if r := c.Do(strings.Fields(words)...); !strings.HasPrefix(r.Text, "CROSSSLOT") {
			t.Errorf("%s: %s", words, r)
		}
	}
	c.Expect("OK", "MULTI")
	if r := c.Do("FT.SEARCH", "i", "*"); !strings.Contains(r.Text, "is refused: ") {
		t.Errorf("in MULTI: %s", r)
	}
	c.Expect("-EXECABORT Transaction discarded because of previous errors.", "EXEC")

	lone := redistest.Serve(t, "layout: ring\n"+redistest.NodesYAML(nodes[:1])).Ready().Dial()
	lone.Expect("OK", "FT.CREATE", "i", "SCHEMA", "n", "TEXT")
	lone.MustDo("HSET", "doc", "n", "hello")
	redistest.Eventually(t, redistest.Deliberate, "the index finds it", func() bool {
		return lone.Do("FT.SEARCH", "i", "hello").String() == "[1 doc [n hello]]"
	})
	lone.Expect("OK", "MULTI")
	lone.Expect("QUEUED", "FT.SEARCH", "i", "hello", "NOCONTENT")
	lone.Expect("[[1 doc]]", "EXEC")
}
