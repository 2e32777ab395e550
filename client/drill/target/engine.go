package target

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	// commandTimeout bounds one command of the container engine.
	commandTimeout = 30 * time.Second
	// pipeTimeout is how long the output of a command that was given up may stay open.
	pipeTimeout = time.Second
	// mostOutputBytes is how much of a command's output is kept.
	mostOutputBytes = 8 << 20
)

// engine is the command of a container engine.
type engine struct{ program string }

// run runs one command to its end and returns what it wrote to standard output. The error has the last line that it wrote to
// standard error, and says what to do.
func (e engine) run(ctx context.Context, limit time.Duration, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var stdout, stderr bounded
	command := exec.CommandContext(ctx, e.program, arguments...)
	command.Stdout, command.Stderr, command.WaitDelay = &stdout, &stderr, pipeTimeout
	err := command.Run()
	what := e.program + " " + strings.Join(arguments, " ")
	said := lastLine(stderr.text)
	switch {
	case err == nil && stdout.full:
		return "", fmt.Errorf("%s: it writes more than %d bytes", what, mostOutputBytes)
	case err == nil:
		return string(stdout.text), nil
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("there is no command %s here (%w); install it, or run the drill where the containers run", e.program, err)
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: it did not end in time (%w); see that the container engine answers: docker info", what, context.Cause(ctx))
	case said == "":
		return "", fmt.Errorf("%s: %w; see that the container engine answers: docker info", what, err)
	}
	return "", fmt.Errorf("%s: %s (%w); look at docker ps --all and docker info", what, said, err)
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	text []byte
	full bool
}

func (b *bounded) Write(text []byte) (int, error) {
	room := mostOutputBytes - len(b.text)
	if b.full = b.full || len(text) > room; b.full {
		return len(text), nil // the command goes on; what it says does not count any more
	}
	b.text = append(b.text, text...)
	return len(text), nil
}

// lastLine returns the last line that says something.
func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
