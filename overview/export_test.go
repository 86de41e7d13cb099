package overview

// LoggedMessages returns the beginnings of the log lines that are events.
func LoggedMessages() (all []string) {
	for _, l := range logged {
		all = append(all, l.message)
	}
	return all
}
