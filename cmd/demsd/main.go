// Command demsd is the DEMS server: a node, a front end, or a whole cluster on one machine for development.
//
// It wires packages together and owns flags, signals and processes; it decides nothing about bookings. Its goroutines
// end before run returns.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// version is set by the linker for releases; else the build's own information serves.
var version = ""

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// Exit statuses.
const (
	statusDone   = 0
	statusFailed = 1
	statusUsage  = 2
)

// usageError marks what the caller typed wrong.
type usageError struct{ error }

// run is the whole program: it returns the exit status when the command is done or the context has ended.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return statusDone
	}
	fmt.Fprintf(stderr, "demsd: %v\n", err)
	if _, usage := errors.AsType[usageError](err); usage {
		fmt.Fprintln(stderr, "Run demsd --help for the commands and demsd COMMAND --help for examples.")
		return statusUsage
	}
	return statusFailed
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "demsd",
		Short: "The DEMS server",
		Long: `demsd runs DEMS: a store for events and bookings in which every node executes every request
and clients get only what a majority of the nodes answered.

Every flag can also be given in the environment: --data-dir as DEMSD_DATA_DIR.`,
		Example: `  demsd dev                      # a whole cluster on this machine
  demsd node --help              # one node of a real cluster
  demsd frontend --help          # a front end of a real cluster
  demsd pki --help               # the certificates that both need
  demsd restore --help           # a new cluster from a backup`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              unknownCommand,
		RunE:              func(command *cobra.Command, _ []string) error { return command.Help() },
		PersistentPreRunE: func(command *cobra.Command, _ []string) error { return fromEnvironment(command) },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().String("log-level", "info", "how much is logged: debug, info, warn or error")
	root.AddCommand(newDevCommand(), newNodeCommand(), newFrontEndCommand(), newPKICommand(), newHealthCommand(), newRestoreCommand(), newVersionCommand())
	return root
}

func unknownCommand(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("there is no command %q", args[0])}
	}
	return nil
}

// noArguments refuses arguments that are not flags.
func noArguments(command *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no argument, got %q", command.CommandPath(), args[0])}
	}
	return nil
}

// fromEnvironment sets each flag that was not given from DEMSD_ and its name in capitals.
func fromEnvironment(command *cobra.Command) error {
	var failed error
	command.Flags().VisitAll(func(flag *pflag.Flag) {
		name := "DEMSD_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		if value, ok := os.LookupEnv(name); ok && !flag.Changed && flag.Name != "help" && failed == nil {
			if err := command.Flags().Set(flag.Name, value); err != nil {
				failed = usageError{fmt.Errorf("%s=%q: %w", name, value, err)}
			}
		}
	})
	return failed
}

// newLogger returns a logger to the command's standard error at the level of --log-level.
func newLogger(command *cobra.Command) (*slog.Logger, error) {
	text, err := command.Flags().GetString("log-level")
	if err != nil {
		return nil, err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(text)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %q: use debug, info, warn or error", text)}
	}
	return slog.New(slog.NewTextHandler(command.ErrOrStderr(), &slog.HandlerOptions{Level: level})), nil
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  demsd version",
		Args:    noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(command.OutOrStdout(), "demsd", programVersion())
			return err
		},
	}
}

// programVersion returns the linker's version, else the module's, else the revision that was built.
func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && len(setting.Value) >= 12 {
			return setting.Value[:12]
		}
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
