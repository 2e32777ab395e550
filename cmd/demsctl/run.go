package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"dems"
	"dems/client"
)

// program is one invocation: where it reads and writes, and what the global flags say.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookup         func(string) (string, bool) // the environment
	colour         bool                        // standard output is a terminal that shows colours
	chatty         bool                        // standard error is a terminal: progress is welcome

	user      string
	endpoints []string
	output    string
	timeout   time.Duration
	logDir    string

	shared *client.Client // in a shell, the client of all lines
}

// run is demsctl with everything it uses handed in. It returns the exit status. When ctx ends, what is in progress is
// given up.
func run(ctx context.Context, arguments []string, stdin io.Reader, stdout, stderr io.Writer, lookup func(string) (string, bool)) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, lookup: lookup}
	_, noColour := lookup("NO_COLOR")
	terminal, _ := lookup("TERM")
	p.colour = isTerminal(stdout) && !noColour && terminal != "dumb"
	p.chatty = isTerminal(stderr)
	err := p.execute(ctx, newRoot(p), arguments)
	return exitStatus(err)
}

// execute runs one command line and tells about its error.
func (p *program) execute(ctx context.Context, root *cobra.Command, arguments []string) error {
	root.SetArgs(arguments)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	command, err := root.ExecuteContextC(ctx)
	if err != nil {
		p.complain(command, err)
	}
	return err
}

// newRoot returns the command tree.
func newRoot(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:   "demsctl",
		Short: "Manage and book events in a DEMS cluster",
		Long: `demsctl asks a front end of a DEMS cluster.

Every flag can be given in the environment: --log-dir as DEMSCTL_LOG_DIR, and so on. --endpoint is also read from
DEMS_ENDPOINTS, --user from DEMS_USER and --log-dir from DEMS_LOG_DIR; a bearer token comes from DEMS_TOKEN alone.
A flag goes before DEMSCTL_…, and that before DEMS_….

Exit status: 0 done; 1 the system refused it, or a drill did not pass; 2 wrong usage, or a file, the user log or the output cannot be
read or written; 3 unavailable, nothing was applied or no answer has a majority; 4 indeterminate, it may have been applied.`,
		Example: `  demsctl --user TORM2345 event add TORM100519 seminar --capacity 3
  demsctl --user MTLC0001 book TORM100519 seminar
  demsctl --user MTLC0001 schedule -o json
  demsctl --endpoint http://10.0.0.1:8080,http://10.0.0.2:8080 cluster status`,
		Args:              cobra.NoArgs,
		RunE:              func(command *cobra.Command, _ []string) error { return command.Help() },
		PersistentPreRunE: func(command *cobra.Command, _ []string) error { return p.fromEnvironment(command) },
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&p.user, "user", "", "who asks, for example TORM2345")
	flags.StringSliceVar(&p.endpoints, "endpoint", []string{"http://127.0.0.1:8080"}, "URL of a front end; several, or a list with commas: the next is asked where one fails")
	flags.DurationVar(&p.timeout, "timeout", 10*time.Second, "how long an operation may take with all its retries")
	flags.StringVar(&p.logDir, "log-dir", "", "folder of the user logs (default $XDG_STATE_HOME/dems/logs, else ~/.local/state/dems/logs)")
	p.addOutputFlag(flags)
	root.AddCommand(p.operations()...)
	root.AddCommand(p.registryCommand(), p.clusterCommand(), p.incidentsCommand(), p.logCommand(), p.snapshotCommand(), p.faultCommand(), p.shellCommand(),
		p.benchCommand(), p.drillCommand(), p.versionCommand(), p.completionCommand())
	root.InitDefaultHelpCmd()
	for _, command := range root.Commands() {
		if command.Name() == "help" {
			command.Example = "  demsctl help event add"
		}
	}
	return root
}

// operations returns the commands of the operations: those that a shell has as well.
func (p *program) operations() []*cobra.Command {
	return []*cobra.Command{
		p.eventCommand(), p.bookCommand(), p.scheduleCommand(), p.cancelCommand(), p.swapCommand(),
	}
}

func (p *program) addOutputFlag(flags *pflag.FlagSet) {
	flags.StringVarP(&p.output, "output", "o", "table", "table for people, json for programs: what the front end answered")
}

// alternatives are the further names that flags have in the environment.
var alternatives = map[string]string{"endpoint": "DEMS_ENDPOINTS", "user": "DEMS_USER"}

// fromEnvironment sets every flag that the command line does not set from the environment. An empty variable counts as
// absent.
func (p *program) fromEnvironment(command *cobra.Command) error {
	var wrong error
	command.Flags().VisitAll(func(flag *pflag.Flag) {
		if flag.Changed || flag.Name == "help" || wrong != nil {
			return
		}
		names := []string{"DEMSCTL_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))}
		if alternative, ok := alternatives[flag.Name]; ok {
			names = append(names, alternative)
		}
		for _, name := range names {
			if value, _ := p.lookup(name); value != "" {
				if err := command.Flags().Set(flag.Name, value); err != nil {
					wrong = fmt.Errorf("environment variable %s: %w", name, err)
				}
				return
			}
		}
	})
	if wrong != nil {
		return wrong
	}
	if p.output != "table" && p.output != "json" {
		return fmt.Errorf("--output %q: write table or json", p.output)
	}
	if p.timeout <= 0 {
		return fmt.Errorf("--timeout %v: write a time above zero, as in 10s", p.timeout)
	}
	return nil
}

// connect returns a client for the user of this invocation, who may be nobody.
func (p *program) connect() (*client.Client, error) {
	if p.shared != nil {
		return p.shared, nil
	}
	config, err := p.clientConfig()
	if err != nil {
		return nil, err
	}
	return client.New(config)
}

// connectUser returns a client for the user of this invocation, who must be somebody, with the user log.
func (p *program) connectUser() (*client.Client, error) {
	if p.shared != nil {
		return p.shared, nil
	}
	if p.user == "" {
		return nil, refuse(dems.Unauthenticated, "Say who is asking: --user TORM2345, or DEMS_USER.")
	}
	config, err := p.clientConfig()
	if err != nil {
		return nil, err
	}
	folder := p.logDir
	if folder == "" {
		folder, err = client.DefaultLogFolder(func(name string) string { value, _ := p.lookup(name); return value })
		if err != nil {
			return nil, fmt.Errorf("%w; name one with --log-dir", err)
		}
	}
	if config.UserLog, err = client.OpenUserLog(folder); err != nil {
		return nil, err
	}
	return client.New(config)
}

// clientConfig returns what the global flags say, without the user log.
func (p *program) clientConfig() (client.Config, error) {
	config := client.DefaultConfig()
	config.Endpoints = p.endpoints
	config.Timeout = p.timeout
	config.Token, _ = p.lookup("DEMS_TOKEN")
	config.Logger = p.logger()
	if p.user != "" {
		var ok bool
		if config.User, ok = dems.ParseUserID(p.user); !ok {
			return config, refuse(dems.InvalidUserID, "")
		}
	}
	return config, nil
}

// logger returns where the client tells about retries, which is for people who wait, and about records that are missing
// in the user log.
func (p *program) logger() *slog.Logger {
	level := slog.LevelWarn
	if p.chatty {
		level = slog.LevelInfo
	}
	return slog.New(&lineHandler{writer: p.stderr, level: level})
}

// complain tells on standard error what went wrong and what to do. With -o json a front end's answer is passed on as it is.
func (p *program) complain(command *cobra.Command, err error) {
	if _, told := errors.AsType[*lineError](err); told {
		return
	}
	if _, alone := err.(*verdictError); alone && p.output == "table" {
		return // it is the last line of the report
	}
	failed, ok := errors.AsType[*client.Error](err)
	if ok && p.output == "json" {
		fmt.Fprintln(p.stderr, string(problemDocument(failed)))
		return
	}
	fmt.Fprintf(p.stderr, "demsctl: %s\n", printable(err.Error()))
	if ok && failed.Key != "" && exitStatus(err) == exitIndeterminate {
		fmt.Fprintf(p.stderr, "demsctl: to learn the outcome, give the same command with --idempotency-key %s\n", failed.Key)
	}
	if exitStatus(err) == exitUsage && command != nil {
		fmt.Fprintf(p.stderr, "demsctl: see '%s --help'\n", command.CommandPath())
	}
}

// lineHandler writes log records as lines for people.
type lineHandler struct {
	writer io.Writer
	level  slog.Level
}

func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h *lineHandler) Handle(_ context.Context, record slog.Record) error {
	var line bytes.Buffer
	fmt.Fprintf(&line, "demsctl: %s", printable(record.Message))
	record.Attrs(func(attribute slog.Attr) bool {
		fmt.Fprintf(&line, " %s=%q", attribute.Key, attribute.Value.String())
		return true
	})
	line.WriteByte('\n')
	_, err := h.writer.Write(line.Bytes())
	return err
}

// WithAttrs and WithGroup are not used by the client; what they add is left out.
func (h *lineHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *lineHandler) WithGroup(string) slog.Handler      { return h }

// isTerminal tells whether a reader or a writer is a terminal.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
