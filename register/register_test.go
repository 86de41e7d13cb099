package register

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/resp"
)

// TestNumber: only the canonical name of an epoch is one.
func TestNumber(t *testing.T) {
	for name, want := range map[string]int64{
		"keyway_1": 1, "keyway_42": 42, "keyway_999999999999999999": 999999999999999999,
		"keyway_0": 0, "keyway_01": 0, "keyway_": 0, "keyway_1_done": 0, "keyway_x": 0, "Keyway_1": 0, "keyway_+1": 0,
		"keyway_1000000000000000000": 0, "xkeyway_1": 0, "": 0, "keyway_1 ": 0,
	} {
		if got := Number(name); got != want {
			t.Errorf("%q: %d, want %d", name, got, want)
		}
	}
	if Name(42) != "keyway_42" || DoneName(42) != "keyway_42_done" {
		t.Errorf("%s and %s", Name(42), DoneName(42))
	}
}

// TestRecordSurvivesItsText: a record is read as it was written, whatever is in it, and
// nothing else is taken for one.
func TestRecordSurvivesItsText(t *testing.T) {
	odd := "a'b\\c\"d]]e\\n\n\x00é' end, flags={"
	r := Record{
		Epoch: 7,
		Old:   Layout{Hash: "1a", Config: fmt.Appendf(nil, "%s", `{"layout":"ring","hash_tag":"'\\"}`)},
		New:   Layout{Hash: odd, Config: []byte(`{}`)},
	}
	code, err := r.Code()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(code)
	if err != nil || got.Epoch != 7 || got.Old.Hash != "1a" || got.New.Hash != odd || !got.Moves() ||
		string(got.Old.Config) != string(r.Old.Config) || string(got.New.Config) != "{}" {
		t.Errorf("%+v, %v", got, err)
	}
	if strings.Count(code, "\n") != 1 || NameIn([]byte(code)) != "keyway_7" {
		t.Errorf("the text is %q", code)
	}
	for _, bad := range []string{
		"", "#!lua name=keyway_7\n", Note("keyway_7"), Note("keyway_7_done"),
		strings.Replace(code, "keyway_7\n", "keyway_8\n", 1), strings.ReplaceAll(code, "keyway_7", "keyway_8"),
		code[:len(code)-1], code + "x", strings.Replace(code, "'{", "'[", 1),
	} {
		if got, err := Parse(bad); err == nil {
			t.Errorf("%q is a record: %+v", bad, got)
		}
	}
}

// list is a reply to FUNCTION LIST.
func list(version resp.Version, names ...string) []byte {
	b := resp.AppendArray(nil, len(names))
	for _, name := range names {
		b = version.AppendMap(b, 2)
		b = resp.AppendBulkString(resp.AppendBulkString(b, "library_name"), name)
		b = resp.AppendArray(resp.AppendBulkString(b, "functions"), 0)
	}
	return b
}

// TestListHidesRecords: what clients get has the libraries of clients, as the node wrote them.
func TestListHidesRecords(t *testing.T) {
	for _, version := range []resp.Version{resp.V2, resp.V3} {
		all := list(version, "mine", "keyway_3", "keyway_3_done", "KEYWAY_4", "keyway", "other")
		want := list(version, "mine", "keyway", "other")
		if got := AppendList([]byte("x"), all); string(got) != "x"+string(want) {
			t.Errorf("%q, want %q", got, want)
		}
		if in, closing := Epoch(all); in != 3 || closing != 0 {
			t.Errorf("epoch %d, closing %d", in, closing)
		}
		about := list(version, "keyway_3_closing", "keyway_4_closing", "keyway_2", "keyway_9_plan", "keyway_x_closing")
		if in, closing := Epoch(about); in != 2 || closing != 4 {
			t.Errorf("epoch %d, closing %d", in, closing)
		}
		if in, closing := Epoch(list(version, "keyway_4_closing", "keyway_4")); in != 4 || closing != 0 {
			t.Errorf("epoch %d, closing %d", in, closing)
		}
		if clients, records := Names(all); strings.Join(clients, " ") != "mine keyway other" || records != 3 {
			t.Errorf("%q and %d records", clients, records)
		}
	}
	for _, reply := range []string{"*0\r\n", "-ERR Unknown argument x\r\n", "$1\r\nx\r\n", "*-1\r\n", ""} {
		if got := AppendList(nil, []byte(reply)); string(got) != reply {
			t.Errorf("%q became %q", reply, got)
		}
	}
}

// TestStatsDoNotCountRecords: the counts of Redis's engine are those of clients' libraries.
func TestStatsDoNotCountRecords(t *testing.T) {
	const (
		running = "$14\r\nrunning_script\r\n*2\r\n$7\r\ncommand\r\n*2\r\n$3\r\nLUA\r\n*2\r\n:5\r\n:5\r\n"
		counts  = "*4\r\n$15\r\nlibraries_count\r\n:%d\r\n$15\r\nfunctions_count\r\n:%d\r\n"
		stats   = "*4\r\n" + running + "$7\r\nengines\r\n*4\r\n$3\r\nLUA\r\n" + counts + "$2\r\nJS\r\n" + counts
	)
	for _, s := range []string{stats, strings.ReplaceAll(stats, "*4\r\n", "%%2\r\n")} {
		got := AppendStats([]byte("x"), fmt.Appendf(nil, s, 5, 9, 5, 9), 2)
		if want := "x" + fmt.Sprintf(s, 3, 7, 5, 9); string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, reply := range []string{"-BUSY x\r\n", "*0\r\n", "*2\r\n$7\r\nengines\r\n*0\r\n"} {
		if got := AppendStats(nil, []byte(reply), 2); string(got) != reply {
			t.Errorf("%q became %q", reply, got)
		}
	}
}

// dumps are replies of Redis 7.0.15 to FUNCTION DUMP: of no library, of library q, and of
// this and keyway_1. The texts are compressed.
var dumps = [3]string{"0a005d9b5c400f7fa2da",
	"f5c34043405d1f23216c7561206e616d653d710a72656469732e72656769737465725f66756e630974696f6e28" +
		"2771272c20e0000d09292072657475726e2031e012000420656e64290a000485c1e263ae6fa2",
	"f5c34043405d1f23216c7561206e616d653d710a72656469732e72656769737465725f66756e630974696f6e28" +
		"2771272c20e0000d09292072657475726e2031e012000420656e6429f5c3407e408c1f23216c7561206e616d65" +
		"3d6b65797761795f310a72656469732e7265676973740b65725f66756e6374696f6e7bc008005f602e0027c02f" +
		"0b272c2063616c6c6261636b3dc0221f28292072657475726e20272720656e642c20666c6167733d7b276e6f2d" +
		"777269027465732036002720360a6f772d7374616c65277d7d0a00ff4445d5be7daf7e",
}

// TestDumpHidesRecords: the dump without the records is what a node would have written
// without them.
func TestDumpHidesRecords(t *testing.T) {
	payload := func(i int) []byte {
		b, err := hex.DecodeString(dumps[i])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for i, want := range []int{0, 1, 1} {
		d, err := ReadDump(payload(i))
		if err != nil || string(d.Payload) != string(payload(want)) || d.Records != i/2 ||
			strings.Join(d.Clients, " ") != [3]string{"", "q", "q"}[i] {
			t.Errorf("dump %d: %+v, %v", i, d, err)
		}
	}
	bad := payload(2)
	bad[20] ^= 1
	if _, err := ReadDump(bad); err != ErrChecksum {
		t.Errorf("a damaged dump: %v", err)
	}
	if _, err := ReadDump([]byte("x")); err != ErrChecksum {
		t.Errorf("a short dump: %v", err)
	}
}

// TestNameInFirstLine: the name is found where a node finds it.
func TestNameInFirstLine(t *testing.T) {
	for code, want := range map[string]string{
		"#!lua name=a\nreturn 1":            "a",
		"#!lua  name=a\r\nreturn":           "a",
		"#!lua \"name=\\x6beyway_1\"\nx":    "keyway_1",
		"#!lua 'name=keyway_2'\n":           "keyway_2",
		"#!LUA NAME=keyway_3":               "keyway_3",
		"#!lua nam=a\n":                     "",
		"name=a\n":                          "",
		"#!lua \"name=a\n":                  "",
		"":                                  "",
		"*1\r\n$1\r\nx\r\n#!lua name=a\n":   "",
		"#!lua\nname=keyway_4":              "",
		"#!lua name=b name=a extra=\"1\"\n": "b",
	} {
		if got := NameIn([]byte(code)); got != want {
			t.Errorf("%q: %q, want %q", code, got, want)
		}
	}
}

// FuzzRegister: nothing that a node or a client sends makes the readers fail, and what they
// leave has no record any more.
func FuzzRegister(f *testing.F) {
	for _, d := range dumps {
		b, _ := hex.DecodeString(d)
		f.Add(b)
	}
	f.Add(list(resp.V3, "mine", "keyway_3"))
	f.Add([]byte(Note("keyway_3")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, records := Names(AppendList(nil, b)); records > 0 {
			t.Errorf("%q: a record is left", b)
		}
		Epoch(b)
		AppendStats(nil, b, 2)
		Parse(string(b))
		name := NameIn(b)
		Changes(map[string]string{name: string(b), PlanName(1): string(b), DecisionName(1): string(b)})
		for _, payload := range [][]byte{b, signed(b)} {
			d, err := ReadDump(payload)
			if err != nil {
				continue
			}
			if again, err := ReadDump(d.Payload); err != nil || again.Records != 0 {
				t.Errorf("%q: what is left is read as %+v, %v", payload, again, err)
			}
		}
	})
}

// signed returns a dump of these bytes with the right checksum.
func signed(b []byte) []byte {
	b = append([]byte{}, b...)
	b = append(b, 10, 0)
	sum := sum(b)
	for range checksum {
		b, sum = append(b, byte(sum)), sum>>8
	}
	return b
}
