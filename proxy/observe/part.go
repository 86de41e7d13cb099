package observe

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// Part is the observer of locks, that of hot and big keys, and KEYWAY.
var Part = engine.Part{
	New: func(w *engine.Worker) []engine.Feature { return []engine.Feature{newObserver(w), newTraffic(w)} },
	Handlers: map[command.Action]engine.Handler{
		command.DoHotKeysStart:  {Answer: hotKeysStart},
		command.DoHotKeysStop:   {Answer: hotKeysStop},
		command.DoHotKeysGet:    {Answer: hotKeysGet},
		command.DoHotKeysReset:  {Answer: hotKeysReset},
		command.DoHotKeysHelp:   {Answer: hotKeysHelp},
		command.DoKeywayHelp:    {Answer: help},
		command.DoKeywayLocks:   {Answer: listLocks},
		command.DoKeywayConsole: {Answer: askConsole},
		command.DoKeywayHotKeys: {Answer: listHotKeys},
		command.DoKeywayBigKeys: {Answer: listBigKeys},
	},
}
