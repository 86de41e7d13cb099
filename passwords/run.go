package passwords

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// runTimeout bounds how long a command may run.
	runTimeout = 10 * time.Second
	// pipesTimeout bounds how long a process that the command leaves behind may keep its output open.
	pipesTimeout = time.Second

	maxPassword  = 64 << 10 // bytes; tokens have a few thousand
	maxComplaint = 500      // bytes of the standard error output that an error shows
)

// run runs a command, and returns what it prints without the newline at the end. No error has
// anything of that.
func run(ctx context.Context, words []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that the processes it starts end with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipesTimeout
	var printed head
	var complaint tail
	cmd.Stdout, cmd.Stderr = &printed, &complaint
	err := cmd.Run()
	switch {
	case printed.isFull:
		return "", fmt.Errorf("%q prints more than %d bytes", words[0], maxPassword)
	case ctx.Err() == context.DeadlineExceeded:
		return "", fmt.Errorf("%q did not end in %s%s", words[0], runTimeout, complaint.text())
	case err != nil && !errors.Is(err, exec.ErrWaitDelay): // it ended well, and left a process behind
		return "", fmt.Errorf("%q failed: %w%s", words[0], err, complaint.text())
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(printed.bytes), "\n"), "\r")
	switch {
	case text == "":
		return "", fmt.Errorf("%q prints nothing%s", words[0], complaint.text())
	case strings.Contains(text, "\n"):
		return "", fmt.Errorf("%q prints several lines, and a password is one", words[0])
	}
	return text, nil
}

// head keeps the first bytes that are written to it, and refuses more.
type head struct {
	bytes  []byte
	isFull bool
}

// Write implements io.Writer.
func (h *head) Write(b []byte) (int, error) {
	if len(h.bytes)+len(b) > maxPassword {
		h.isFull = true
		return 0, errors.New("too much")
	}
	h.bytes = append(h.bytes, b...)
	return len(b), nil
}

// tail keeps the last bytes that are written to it.
type tail struct{ bytes []byte }

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.bytes = append(t.bytes, b...)
	t.bytes = t.bytes[max(0, len(t.bytes)-maxComplaint):]
	return len(b), nil
}

// text returns what was written as the end of an error in one line.
func (t *tail) text() string {
	words := strings.Fields(strings.ToValidUTF8(string(t.bytes), "?"))
	if len(words) == 0 {
		return ""
	}
	return ": " + strings.Join(words, " ")
}
