package compat

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestCompatThroughUpgrades runs every client while new processes replace keyway one after the
// other.
func TestCompatThroughUpgrades(t *testing.T) {
	if *clients == "" || *target == "redis" {
		t.Skip("make compat runs the clients of other languages")
	}
	yaml := redistest.NewCluster(t, 3, 0).SeedsYAML()
	plain, one := redistest.ServeSuccessive(t, yaml), redistest.EmulatingSuccessive(t, yaml)
	several := redistest.Emulating(t, 3, yaml)[0].Addr
	outcomes := &results{of: map[string]map[string]bool{}}
	ended := make(chan struct{})
	upgrades := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-ended:
				upgrades <- n
				return
			case <-time.After(500 * time.Millisecond):
			}
			for _, k := range []*redistest.Successive{plain, one} {
				if printed, err := k.Upgrade(); err != nil {
					t.Errorf("%v: %s", err, printed)
				}
				n++
			}
		}
	}()
	t.Run("clients", func(t *testing.T) {
		for _, language := range strings.Split(*clients, ",") {
			t.Run(language, func(t *testing.T) {
				t.Parallel()
				run(t, language, append(slices.Clone(commands[language]), "slots", plain.Addr, one.Addr, several), outcomes)
			})
		}
	})
	close(ended)
	t.Logf("%d upgrades", <-upgrades)
}
