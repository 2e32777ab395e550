package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// maxLineBytes is the longest line that a shell reads, in bytes.
const maxLineBytes = 64 << 10

func (p *program) shellCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "shell",
		Short: "Do operations at a prompt, as one user",
		Long: `Read operations from standard input, a line each, and do them as one user: event, book, schedule, cancel and swap, written
as on the command line. Words may be quoted; # begins a comment. Errors do not end it; exit, quit and the end of the input do.

Where the input is a terminal there is a prompt, and the exit status is 0. Otherwise the exit status is that of the first
line that failed.`,
		Example: `  demsctl --user MTLC0001 shell
  demsctl --user TORM2345 shell < operations.txt`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			api, err := p.connectUser()
			if err != nil {
				return err
			}
			s := &shell{program: *p, prompt: isTerminal(p.stdin)}
			s.shared = api
			err = s.run(command.Context())
			if _, ok := errors.AsType[*lineError](err); ok && s.prompt {
				return nil
			}
			return err
		},
	}
}

// lineError is the first error of a shell's lines. It was told about when it happened.
type lineError struct{ err error }

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }

// shell is a program that takes its command lines from standard input.
type shell struct {
	program
	prompt bool
}

// run does lines until the input ends, exit is read or ctx ends. The error is a *lineError where lines failed.
func (s *shell) run(ctx context.Context) error {
	lines := s.readLines(ctx)
	var first error
	for {
		if s.prompt {
			fmt.Fprintf(s.stderr, "%s> ", s.shared.User())
		}
		var line inputLine
		select {
		case <-ctx.Done():
			return first
		case line = <-lines:
		}
		if line.err != nil {
			if s.prompt {
				fmt.Fprintln(s.stderr)
			}
			if !errors.Is(line.err, io.EOF) {
				return fmt.Errorf("the input cannot be read: %w", line.err)
			}
			return first
		}
		words, err := splitWords(line.text)
		if err != nil {
			s.complain(nil, err)
		} else if len(words) == 1 && (words[0] == "exit" || words[0] == "quit") {
			return first
		} else if len(words) > 0 {
			err = s.line(ctx, words)
		}
		if err != nil && first == nil {
			first = &lineError{err}
		}
	}
}

// line runs one line. It has its own command tree and flags, so that no flag lasts until the next.
func (s *shell) line(ctx context.Context, words []string) error {
	line := s.program
	root := &cobra.Command{
		Use:               "demsctl",
		Short:             "Operations as one user; exit ends",
		Args:              cobra.NoArgs,
		RunE:              func(command *cobra.Command, _ []string) error { return command.Help() },
		PersistentPreRunE: func(command *cobra.Command, _ []string) error { return line.fromEnvironment(command) },
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.PersistentFlags().StringVarP(&line.output, "output", "o", s.output, "table or json")
	root.AddCommand(line.operations()...)
	return line.execute(ctx, root, words)
}

// inputLine is a line of the input, or why there is none.
type inputLine struct {
	text string
	err  error // io.EOF at the end
}

// readLines reads lines on a goroutine of its own, because reading from a terminal cannot be interrupted. It ends with the
// input or, at the first line after that, with ctx; a read that never returns ends with the process.
func (s *shell) readLines(ctx context.Context) <-chan inputLine {
	lines := make(chan inputLine)
	go func() {
		scanner := bufio.NewScanner(s.stdin)
		scanner.Buffer(nil, maxLineBytes)
		for scanner.Scan() {
			select {
			case lines <- inputLine{text: scanner.Text()}:
			case <-ctx.Done():
				return
			}
		}
		end := inputLine{err: scanner.Err()}
		if end.err == nil {
			end.err = io.EOF
		}
		select {
		case lines <- end:
		case <-ctx.Done():
		}
	}()
	return lines
}
