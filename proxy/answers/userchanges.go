package answers

import (
	"slices"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// userSet answers ACL SETUSER name [rule ...].
func userSet(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	name, rules := string(a.Arg(2)), arguments(a, 3)
	return engine.DoUsersTask(w, s, cmd, a, engine.UsersTask{Change: func(now *acl.Users) (*acl.Users, []byte) {
		next, err := now.Set(name, rules)
		if err != nil {
			return nil, resp.AppendError(nil, "ERR "+err.Error())
		}
		return next, resp.AppendOK(nil)
	}})
}

// userDelete answers ACL DELUSER name [name ...].
func userDelete(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	names := arguments(a, 2)
	if slices.Contains(names, acl.DefaultName) {
		return s.AnswerError(cmd, "ERR The 'default' user cannot be removed")
	}
	return engine.DoUsersTask(w, s, cmd, a, engine.UsersTask{Change: func(now *acl.Users) (*acl.Users, []byte) {
		next, deleted := now.Without(names)
		return next, resp.AppendInt(nil, int64(deleted))
	}})
}

// userLoad answers ACL LOAD.
func userLoad(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	return engine.DoUsersTask(w, s, cmd, a, engine.UsersTask{Kind: engine.LoadUsers})
}

// userSave answers ACL SAVE.
func userSave(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	return engine.DoUsersTask(w, s, cmd, a, engine.UsersTask{Kind: engine.SaveUsers})
}

// arguments returns copies of the arguments from the first on.
func arguments(a command.Args, first int) []string {
	texts := make([]string, 0, a.Len()-first)
	for i := first; i < a.Len(); i++ {
		texts = append(texts, string(a.Arg(i)))
	}
	return texts
}
