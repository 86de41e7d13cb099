package daemon

import (
	"strings"

	"github.com/keyway-proxy/keyway/audit"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/console"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/router"
)

// console returns what clients and operators can ask about the pool. The pool need not be served yet.
func (p *served) console() *console.Pool {
	return &console.Pool{
		State:    func() overview.State { return p.sampler.State() },
		Events:   p.newestEvents,
		Route:    func(key []byte) router.Explanation { return p.srv.Table().ExplainKey(key) },
		Settings: p.settings,
		Level:    p.of.out.levelText,
		SetLevel: func(level, by string) error {
			report, err := p.of.setLogLevel(level, "by", by)
			user, addr, _ := strings.Cut(by, " at ")
			p.of.audit.record(audit.Deed{
				Action: "KEYWAY LOG", Via: audit.ViaClient, Addr: addr, User: user, Pool: p.name,
				Result: oneLine(report), Err: err,
			})
			return err
		},
	}
}

// settings returns the configuration of the pool that is in force.
func (p *served) settings() (all []console.Setting) {
	for _, s := range config.Settings(p.cfg.Load()) {
		all = append(all, console.Setting(s))
	}
	return all
}
