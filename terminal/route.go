package terminal

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/keyway-proxy/keyway/router"
)

// Routes prints where keys live, and why.
func Routes(w io.Writer, routes []router.Explanation) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "KEY\tHASH TAG\tBY\tNODE\tADDRESS")
	for _, e := range routes {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", safe(e.Key), dash(e.Tag), reason(e), nodeText(e), dash(e.Addr))
	}
	return tw.Flush()
}

func reason(e router.Explanation) string {
	switch {
	case e.Slot != nil:
		return fmt.Sprintf("slot %d", *e.Slot)
	case e.Hash != nil:
		return fmt.Sprintf("hash %d", *e.Hash)
	}
	return e.Rule
}

func nodeText(e router.Explanation) string {
	switch {
	case e.Node == "":
		return "none"
	case e.From != "":
		return e.Node + ", moves from " + e.From
	}
	return e.Node
}

// dash returns the text, or a dash for an empty one.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return safe(s)
}
