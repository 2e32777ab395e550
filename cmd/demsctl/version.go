package main

import (
	"encoding/json"
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
			version := buildVersion()
			body, err := json.Marshal(version)
			if err != nil {
				return err
			}
			return p.emit(body, func(page *page) {
				page.line("demsctl %s, built from %s with %s", version.Version, version.Revision, version.Go)
			})
		},
	}
}

// versionInfo is what the build knows of itself.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // "unknown" where it was not built from a repository
	Go       string `json:"go"`
}

func buildVersion() versionInfo {
	info := versionInfo{Version: "(devel)", Revision: "unknown", Go: "unknown"}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return info
	}
	info.Go = build.GoVersion
	if build.Main.Version != "" {
		info.Version = build.Main.Version
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
