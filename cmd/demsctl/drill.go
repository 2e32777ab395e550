package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dems"
	"dems/client"
	"dems/client/drill"
	"dems/client/drill/report"
	"dems/client/drill/target"
)

// openTimeout bounds finding the processes of a cluster.
const openTimeout = time.Minute

// drillFlags are what the flags of a drill say that is not in its configuration.
type drillFlags struct{ dataDir, project string }

func (p *program) drillCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "drill SCENARIO",
		Short:   "Break a cluster on purpose, under load, and report what clients saw",
		Long:    drillHelp(),
		Example: drillExamples,
		Args:    cobra.ExactArgs(1),

		ValidArgsFunction: completeScenario,
	}
	var (
		config drill.Config
		more   drillFlags
	)
	flags := command.Flags()
	flags.IntVar(&config.Rounds, "rounds", 3, "rounds of each scenario; with --duration, unless given, as many as fit")
	flags.DurationVar(&config.Duration, "duration", 0, "begin rounds for so long, up to 24h; with --rounds, whichever ends first")
	flags.Uint64Var(&config.Seed, "seed", 0, "decides who is broken when and what clients ask for; 0: a random one")
	flags.IntVar(&config.Clients, "clients", 24, "clients, each with one request at a time")
	flags.Float64Var(&config.Rate, "rate", 0, "operations that begin in a second; 0: 400, or less for a long --duration, since a history has an end")
	flags.StringVar(&more.dataDir, "data-dir", "dems-data", "data folder of the demsd dev on this machine whose nodes are broken")
	flags.StringVar(&more.project, "compose", "", "instead of --data-dir: the compose project whose containers are broken")
	flags.StringVar(&config.Keep, "keep", "", "folder for the report and the history (default ./dems-drill-YYYYMMDD-HHMMSS)")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		config.Scenario = arguments[0]
		if config.Duration != 0 && !flags.Changed("rounds") {
			config.Rounds = 0
		}
		if config.Clients == 0 {
			return errors.New("--clients 0: nobody would notice what a drill does")
		}
		if flags.Changed("rounds") && config.Rounds < 1 {
			return fmt.Errorf("--rounds %d: write 1 or more", config.Rounds)
		}
		if more.project != "" && flags.Changed("data-dir") {
			return errors.New("--data-dir is for a demsd dev, --compose for containers: give one of them")
		}
		return p.drill(command.Context(), config, more)
	}
	command.AddCommand(p.drillCheckCommand())
	return command
}

const drillExamples = `  demsd dev --data-dir /tmp/dems                                      in another terminal
  demsctl drill leader-kill --rounds 10 --data-dir /tmp/dems
  demsctl drill all --duration 10m --data-dir /tmp/dems
  demsctl drill partition --rounds 4 --compose dems                   a cluster of DEMSD_ENABLE_FAULTS=true make up
  demsctl drill all --seed 42 --keep /tmp/drill --data-dir /tmp/dems  who is broken when is as in every drill with seed 42
  demsctl drill check /tmp/drill/history.jsonl`

// drillHelp says at length what a drill is.
func drillHelp() string {
	var text strings.Builder
	text.WriteString(`Break the nodes of a cluster, one after the other, while clients use it, and report what these saw. Every request is different from every
other one, so that one that is lost or done twice can be told. SCENARIO is one of

`)
	for _, name := range drill.Scenarios() {
		writeWrapped(&text, fmt.Sprintf("  %-15s  ", name), drill.About(name))
	}
	writeWrapped(&text, fmt.Sprintf("  %-15s  ", drill.All), "does all of them, in turns.")
	text.WriteString(`
A round begins when every node is a healthy voter. It breaks something, waits for the effect and until clients are answered, mends it, and
ends when every node is a healthy voter again. At the end clients learn what became of every request and read everything, the states of all
nodes are compared, the history of every group of events is checked for linearizability, and the clients' events are removed.

The processes are those of a demsd dev on this machine (--data-dir), or of containers that compose brought up (--compose), and --endpoint
leads to a front end of that cluster. All scenarios but those that kill, stop and restart need nodes and front ends that were started with
--enable-faults, as those of demsd dev are. Authentication has to be off. The drill shares the cluster with whatever else uses it: never
where data matters, and never where somebody else makes events in years after 2050. A node that is made wrong more than three times within an
hour goes into quarantine, and the drill lets it in again by hand.

Interrupted, it mends what it broke, ends in order, and reports; a second interrupt ends it at once, and leaves broken what is broken.

Exit status: 0 nothing was broken that must hold; 1 something was, or could not be decided; 2 wrong usage, a cluster that is not the one
named, or cannot be broken; 3 the cluster cannot be reached, or was not whole at the beginning. --timeout is how long an operation may take
with all its retries before it counts as failed or unknown.`)
	return text.String()
}

// helpWidth is how wide lines of help are.
const helpWidth = 140

// writeWrapped writes a term and what it means, in lines that begin where the first meaning does.
func writeWrapped(text *strings.Builder, term, meaning string) {
	line := term
	for i, word := range strings.Fields(meaning) {
		if i > 0 && len(line)+1+len(word) > helpWidth {
			text.WriteString(line + "\n")
			line = strings.Repeat(" ", len(term)) + word
			continue
		}
		if i > 0 {
			line += " "
		}
		line += word
	}
	text.WriteString(line + "\n")
}

// completeScenario completes the argument SCENARIO.
func completeScenario(_ *cobra.Command, arguments []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(arguments) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return append(drill.Scenarios(), drill.All), cobra.ShellCompDirectiveNoFileComp
}

// drill runs a drill, tells about it meanwhile, and prints its report.
func (p *program) drill(ctx context.Context, config drill.Config, more drillFlags) error {
	if config.Scenario != drill.All && !slices.Contains(drill.Scenarios(), config.Scenario) {
		return fmt.Errorf("%q is no scenario: write %s or %s", config.Scenario, strings.Join(drill.Scenarios(), ", "), drill.All)
	}
	cluster, err := openTarget(ctx, more)
	if err != nil {
		return err
	}
	config.Target, config.Endpoints, config.Timeout, config.Version = cluster, p.endpoints, p.timeout, buildVersion().Version
	if config.Seed == 0 {
		config.Seed = drill.NewSeed()
	}
	config.Command = p.drillLine(&config, more)
	if config.Keep == "" {
		config.Keep = "dems-drill-" + time.Now().Format("20060102-150405")
	}
	config.Round = func(round report.Round) {
		fmt.Fprintf(p.stderr, "demsctl: %s\n", printable(describeRound(&round)))
	}
	if p.chatty {
		config.Progress = func(progress drill.Progress) {
			fmt.Fprintln(p.stderr, printable(describeProgress(&progress)))
		}
	}
	found, err := drill.Run(ctx, config)
	if found == nil {
		return notBegun(err)
	}
	body, encodingError := json.Marshal(found)
	if encodingError != nil {
		return encodingError
	}
	err = errors.Join(err, p.emit(body, func(page *page) { writeDrill(page, found) }))
	if !found.Passed {
		err = errors.Join(&verdictError{found.Objections()}, err)
	}
	return err
}

// openTarget returns the processes that the flags name.
func openTarget(ctx context.Context, more drillFlags) (target.Cluster, error) {
	if more.project == "" {
		return target.OpenDev(more.dataDir)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return target.OpenCompose(ctx, more.project)
}

// notBegun is the error of a drill that could not begin. Nothing was done, whatever a front end knows of the attempt: a cluster that
// does not answer as it should is one that cannot be reached.
func notBegun(err error) error {
	if passes(err) {
		return &client.Error{Code: dems.Unavailable, Detail: "The drill could not begin, and nothing was broken.", Err: err}
	}
	return err
}

// verdictError is that a drill did not pass.
type verdictError struct{ objections []string }

// Error implements error.
func (e *verdictError) Error() string { return "not passed: " + strings.Join(e.objections, "; ") }

// drillLine returns the command line that runs a drill again.
func (p *program) drillLine(config *drill.Config, more drillFlags) string {
	line := []string{"demsctl", "drill", config.Scenario}
	add := func(flag, value string) { line = append(line, flag, quoted(value)) }
	if config.Rounds > 0 {
		add("--rounds", strconv.Itoa(config.Rounds))
	}
	if config.Duration > 0 {
		add("--duration", config.Duration.String())
	}
	add("--seed", strconv.FormatUint(config.Seed, 10))
	add("--clients", strconv.Itoa(config.Clients))
	if config.Rate > 0 {
		add("--rate", strconv.FormatFloat(config.Rate, 'f', -1, 64))
	}
	if more.project != "" {
		add("--compose", more.project)
	} else {
		add("--data-dir", more.dataDir)
	}
	add("--endpoint", strings.Join(p.endpoints, ","))
	add("--timeout", p.timeout.String())
	return strings.Join(line, " ")
}

// quoted writes a word so that a shell reads it as it is.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,=@", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
