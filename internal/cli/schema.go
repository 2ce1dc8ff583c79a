package cli

import (
	"embed"
	"fmt"

	"github.com/spf13/cobra"
)

// schemas are generated from the parsers and the documents by internal/cli/gen.
//
//go:embed schema/provider.json schema/manifest.json
var schemas embed.FS

func newProviderSchemaCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of a provider definition",
		Long: `Print the JSON Schema (2020-12) of a provider definition, with which an editor
knows its keys and their values. It says less than 'apiauth provider check', which
also knows what does not go together.

An editor that uses yaml-language-server finds the schema by a first line in the
definition that names its file.`,
		Example: `  apiauth provider schema > provider.schema.json
  # yaml-language-server: $schema=provider.schema.json`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runSchema(g, "provider.json") },
	}
}

func newProjectSchemaCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the manifest, apiauth.yaml",
		Long: `Print the JSON Schema (2020-12) of the manifest, with which an editor knows its
keys and their values.

An editor that uses yaml-language-server finds the schema by a first line in
apiauth.yaml that names its file.`,
		Example: `  apiauth project schema > apiauth.schema.json
  # yaml-language-server: $schema=apiauth.schema.json`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runSchema(g, "manifest.json") },
	}
}

func runSchema(g *globals, name string) error {
	text, err := schemas.ReadFile("schema/" + name)
	if err != nil {
		return err
	}
	if _, err := g.app.Stdout.Write(text); err != nil {
		return fmt.Errorf("write the schema: %w", err)
	}
	return nil
}
