package main

import (
	"encoding/json"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: `  demsctl version -o json`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			info := buildVersion()
			body, err := json.Marshal(info)
			if err != nil {
				return err
			}
			return p.emit(body, func(page *page) {
				page.line("demsctl %s, built from %s with %s", info.Version, info.Revision, info.Go)
			})
		},
	}
}

// version is set by the linker for releases; else the build's own information serves.
var version = ""

// versionInfo is what the build knows of itself.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // "unknown" where it was not built from a repository
	Go       string `json:"go"`
}

func buildVersion() versionInfo {
	info := versionInfo{Version: version, Revision: "unknown", Go: runtime.Version()}
	build, ok := debug.ReadBuildInfo()
	if ok && info.Version == "" {
		info.Version = build.Main.Version
	}
	if info.Version == "" {
		info.Version = "unknown"
	}
	if !ok {
		return info
	}
	for _, setting := range build.Settings {
		switch {
		case setting.Key == "vcs.revision":
			info.Revision = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			info.Revision += " with changes"
		}
	}
	return info
}

func (p *program) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a completion script for a shell",
		Example: `  demsctl completion bash > /etc/bash_completion.d/demsctl
  source <(demsctl completion zsh)`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(command *cobra.Command, arguments []string) error {
			root := command.Root()
			switch arguments[0] {
			case "bash":
				return root.GenBashCompletionV2(p.stdout, true)
			case "zsh":
				return root.GenZshCompletion(p.stdout)
			case "fish":
				return root.GenFishCompletion(p.stdout, true)
			default:
				return root.GenPowerShellCompletionWithDesc(p.stdout)
			}
		},
	}
}
