package transcripts

import (
	"fmt"
	"strings"
)

// transcript is a file of testdata.
type transcript struct {
	preamble []string // the lines above the first case; every case begins with them
	cases    []testCase
}

// testCase is one run. A transcript without "---" has one case without a name.
type testCase struct {
	name  string // "" or the text behind "---"
	lines []string
}

func parse(text string) *transcript {
	t := &transcript{}
	lines := &t.preamble
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := strings.CutPrefix(line, "--- "); ok {
			t.cases = append(t.cases, testCase{name: name})
			lines = &t.cases[len(t.cases)-1].lines
			continue
		}
		*lines = append(*lines, line)
	}
	if len(t.cases) == 0 {
		t.cases = append(t.cases, testCase{lines: t.preamble})
		t.preamble = nil
	}
	return t
}

func (t *transcript) String() string {
	var b strings.Builder
	write := func(lines []string) {
		for _, line := range lines {
			b.WriteString(line + "\n")
		}
	}
	write(t.preamble)
	for _, c := range t.cases {
		if c.name != "" {
			b.WriteString("--- " + c.name + "\n")
		}
		write(c.lines)
	}
	return b.String()
}

func isExpectation(line string) bool { return strings.HasPrefix(line, "    ") }

func isComment(line string) bool {
	return strings.HasPrefix(line, "#") || strings.TrimSpace(line) == ""
}

// run runs one case: the lines of the preamble, then its own. It returns both with
// keyway's actual output in place of the expectations.
func run(preamble, lines []string) (actualPreamble, actual []string, err error) {
	all := append(append([]string(nil), preamble...), lines...)
	o, topology := defaults(), defaultLayout
	var w *world
	var out []string
	for i, line := range all {
		if i == len(preamble) {
			actualPreamble, out = out, nil
		}
		if isExpectation(line) {
			continue
		}
		out = append(out, line)
		switch options, isOptions := strings.CutPrefix(line, "options: "); {
		case isComment(line):
			continue
		case isOptions && w == nil:
			err = setOptions(&o, options)
		case strings.HasPrefix(line, "layout: ") && w == nil:
			topology = strings.TrimPrefix(line, "layout: ")
		default:
			if w == nil {
				w, err = newWorld(o, topology)
			}
			if err == nil {
				err = w.do(line)
			}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w; until then:\n%s", line, err, strings.Join(out, "\n"))
		}
		if w != nil {
			for _, did := range w.take() {
				out = append(out, "    "+did)
			}
		}
	}
	if w == nil {
		_, err = newWorld(o, topology)
	}
	return actualPreamble, out, err
}

// diff shows both texts as one: lines that are wanted only with "-", lines that keyway
// produced only with "+".
func diff(want, got []string) string {
	// common[i][j] is the length of the longest common subsequence of want[i:] and got[j:].
	common := make([][]int, len(want)+1)
	for i := range common {
		common[i] = make([]int, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if want[i] == got[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var b strings.Builder
	for i, j := 0, 0; i < len(want) || j < len(got); {
		switch {
		case i < len(want) && j < len(got) && want[i] == got[j]:
			b.WriteString("  " + want[i] + "\n")
			i, j = i+1, j+1
		case j == len(got) || i < len(want) && common[i+1][j] >= common[i][j+1]:
			b.WriteString("- " + want[i] + "\n")
			i++
		default:
			b.WriteString("+ " + got[j] + "\n")
			j++
		}
	}
	return b.String()
}
