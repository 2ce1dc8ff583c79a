package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/prompt"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/store"
)

func newProjectCmd(g *globals) *cobra.Command {
	return group(&cobra.Command{
		Use:     "project",
		Short:   "Projects: which folder uses which connections",
		GroupID: groupSetup,
		Long: `A project is a folder with an apiauth.yaml; it has connections of its own.
Outside of projects there is the personal project. The manifest is committed and
holds no secrets. Which folder is which project is kept in your own state, so
that a copied manifest gets no access to another project's connections.`,
	}, newProjectInitCmd(g), newProjectShowCmd(g), newProjectLinkCmd(g), newProjectUnlinkCmd(g), newProjectSchemaCmd(g))
}

func newProjectInitCmd(g *globals) *cobra.Command {
	var label string
	cmd := &cobra.Command{
		Use:   "init [NAME[=PROVIDER]...]",
		Short: "Write a manifest and begin a project in this folder",
		Long: `Write apiauth.yaml into this folder, with the named connections, and bind the
folder to a new project. Commit the file: it holds no secrets, and tells others
which connections they need.`,
		Example: `  apiauth project init spotify
  apiauth project init spotify github-work=github --label "My site"`,
		ValidArgsFunction: completeProviders(g),
		RunE:              func(_ *cobra.Command, args []string) error { return runProjectInit(g, args, label) },
	}
	cmd.Flags().StringVar(&label, "label", "", "what people call the project (default: the folder's name)")
	return cmd
}

func runProjectInit(g *globals, names []string, label string) error {
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	if label == "" {
		label = oauth.Clean(filepath.Base(ws.dir))
	}
	if err := project.CheckLabel(label); err != nil {
		return usagef("--label %v", err)
	}
	m := &project.Manifest{Project: label}
	for _, given := range names {
		name, provider, ok := strings.Cut(given, "=")
		if !ok {
			provider = name
		}
		if !project.ValidName(name) {
			return usagef("%q is no name of a connection: a-z, 0-9 and hyphens, up to 63", oauth.Clean(name))
		}
		if !strings.Contains(provider, "://") {
			if _, err := ws.catalogue.Digest(provider); err != nil {
				var unknown *providers.UnknownError
				if errors.As(err, &unknown) && !ok {
					return failf(exitUsage, fmt.Sprintf("name its provider, too: %s=PROVIDER; 'apiauth provider list' shows the catalogue", name), "%w", err)
				}
				return err
			}
		}
		if slices.ContainsFunc(m.Connections, func(c project.Connection) bool { return c.Name == name }) {
			return usagef("%s stands there twice", name)
		}
		m.Connections = append(m.Connections, project.Connection{Name: name, Provider: provider})
	}
	above, nested, err := project.Find(ws.dir, g.app.Home)
	if err != nil {
		return err
	}
	path, err := project.Write(ws.dir, m)
	var exists *project.ExistsError
	if errors.As(err, &exists) {
		return failf(exitUsage, "edit it, or remove it first; 'apiauth connect NAME' adds to it", "%w", err)
	}
	if err != nil {
		return failf(exitUsage, "", "%w", err)
	}
	if nested {
		ws.warn("%s holds for the folder above; here the new one holds alone", above)
	}
	id, err := ws.registry.Bind(filepath.Dir(path), label)
	if err != nil {
		return fmt.Errorf("wrote %s, but the folder could not be bound: %w", path, err)
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, map[string]string{"id": id, "label": label, "manifest": path})
	}
	ws.say("Wrote %s; this folder is project %s now.", path, id)
	if len(names) > 0 {
		ws.say("Next: 'apiauth connect' logs in to what it names.")
	} else {
		ws.say("Next: 'apiauth connect NAME' logs in and adds the connection to it.")
	}
	return nil
}

// projectInfo is a project as it is shown.
type projectInfo struct {
	ID          string   `json:"id"`
	Label       string   `json:"label"`
	Folders     []string `json:"folders"`
	Manifest    string   `json:"manifest,omitempty"`
	Store       string   `json:"store,omitempty"` // keychain or file; empty before the first connect
	StoreID     string   `json:"store_id,omitempty"`
	Connections []string `json:"connections"`
	Needed      []string `json:"needed,omitempty"` // in the manifest and not connected
	Current     bool     `json:"current"`
}

func newProjectShowCmd(g *globals) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:               "show",
		Short:             "Show this project, or all of them",
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runProjectShow(g, all) },
	}
	cmd.Flags().BoolVar(&all, "all", false, "all your projects")
	return cmd
}

func runProjectShow(g *globals, all bool) error {
	if all {
		return showProjects(g)
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	id, err := ws.bound()
	if err != nil {
		return err
	}
	b, err := ws.registry.Get(id)
	if err != nil {
		return err
	}
	info := ws.describeProject(b)
	info.Current = true
	if ws.manifest != nil {
		info.Manifest = ws.manifest.File
		for _, c := range ws.manifest.Connections {
			if !slices.Contains(info.Connections, c.Name) {
				info.Needed = append(info.Needed, c.Name)
			}
		}
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, info)
	}
	rows := [][]string{{"project", info.ID}, {"label", info.Label}}
	for i, f := range info.Folders {
		rows = append(rows, []string{[]string{"folder", ""}[min(i, 1)], f})
	}
	if info.Manifest != "" {
		rows = append(rows, []string{"manifest", info.Manifest})
	}
	kept := "chosen at the first connect"
	if info.Store != "" {
		kept = info.Store + " " + info.StoreID
	}
	rows = append(rows, []string{"store", kept}, []string{"connections", strings.Join(info.Connections, ", ")})
	if len(info.Needed) > 0 {
		rows = append(rows, []string{"not connected", strings.Join(info.Needed, ", ")})
	}
	return printTable(g.app.Stdout, rows...)
}

func showProjects(g *globals) error {
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	infos, err := ws.projects(true)
	if err != nil {
		return err
	}
	if here, err := g.workspace(); err == nil && here.unbound == nil {
		for i := range infos {
			infos[i].Current = infos[i].ID == here.projectID
		}
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, infos)
	}
	return printTable(g.app.Stdout, projectRows(infos)...)
}

// projects lists the projects of the user, the personal one first.
func (ws *workspace) projects(personal bool) ([]projectInfo, error) {
	list, err := ws.registry.List()
	if err != nil {
		return nil, err
	}
	if personal {
		b, err := ws.registry.Get(project.Personal)
		if err != nil {
			return nil, err
		}
		list = append([]project.Binding{*b}, list...)
	}
	infos := make([]projectInfo, 0, len(list))
	for i := range list {
		infos = append(infos, ws.describeProject(&list[i]))
	}
	return infos, nil
}

func projectRows(infos []projectInfo) [][]string {
	rows := [][]string{{"ID", "LABEL", "STORE", "CONNECTIONS", "FOLDER"}}
	for _, p := range infos {
		rows = append(rows, []string{p.ID, p.Label, p.Store, strings.Join(p.Connections, " "), strings.Join(p.Folders, ", ")})
	}
	return rows
}

// describeProject reads names only.
func (ws *workspace) describeProject(b *project.Binding) projectInfo {
	info := projectInfo{ID: b.ID, Label: b.Label, StoreID: b.Store, Folders: []string{}, Connections: []string{}}
	for _, f := range b.Folders {
		info.Folders = append(info.Folders, f.Path)
	}
	if b.Store == "" {
		return info
	}
	s, err := store.Open(ws.storeOptions(), b.Store)
	if err != nil {
		ws.warn("the store %s of project %s: %v", b.Store, b.ID, err)
		return info
	}
	info.Store = s.Kind()
	names, err := s.Names(b.ID)
	if err != nil {
		ws.warn("%v", err)
	}
	info.Connections = append(info.Connections, names...)
	return info
}

func newProjectLinkCmd(g *globals) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "link",
		Short: "Bind this folder to an existing project",
		Long: `Bind this folder to one of your projects, so that its manifest uses that
project's connections: after a folder was moved or cloned anew. At a terminal
the projects are listed with their old folders to choose from; elsewhere name
one with --project. A label never decides: it comes with the repository.`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runProjectLink(cmd.Context(), g, id) },
	}
	cmd.Flags().StringVar(&id, "project", "", "the project's `ID`, as 'apiauth project show --all' prints it")
	registerFlagCompletion(cmd, "project", completeProjects(g))
	return cmd
}

func runProjectLink(ctx context.Context, g *globals, id string) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	if ws.manifest == nil {
		return failf(exitUsage, "'apiauth project init' writes one; a folder without it uses the personal project",
			"there is no %s here", project.ManifestName)
	}
	dir := ws.manifest.Dir()
	infos, err := ws.projects(false)
	if err != nil {
		return err
	}
	if id == "" {
		if len(infos) == 0 {
			return failf(exitUsage, "'apiauth connect' begins one here", "there is no project yet to link this folder to")
		}
		if !ws.person() {
			return failf(exitUsage, "name the project with --project ID; 'apiauth project show --all' lists them", "nobody can be asked which project %s is", dir)
		}
		if id, err = chooseProject(ctx, ws.app, dir, infos); err != nil {
			return err
		}
	}
	if ws.unbound == nil && ws.projectID == id {
		ws.say("%s is project %s already.", dir, id)
		return nil
	}
	if err := ws.registry.Link(dir, id); err != nil {
		return err
	}
	ws.say("%s is project %s now.", dir, id)
	for _, p := range infos {
		if p.ID == id && len(p.Connections) > 0 {
			ws.say("It may use these connections: %s", strings.Join(p.Connections, ", "))
		}
	}
	return nil
}

func chooseProject(ctx context.Context, a *App, dir string, infos []projectInfo) (string, error) {
	var options []prompt.Option
	for _, p := range infos {
		folder := "no folder"
		if len(p.Folders) > 0 {
			folder = strings.Join(p.Folders, ", ")
		}
		connections := "no connections"
		if len(p.Connections) > 0 {
			connections = strings.Join(p.Connections, " ")
		}
		options = append(options, prompt.Option{
			Value: p.ID,
			Label: oauth.Clean(fmt.Sprintf("%s  %s  %s  %s", p.ID, p.Label, folder, connections)),
		})
	}
	id, err := a.terminal().Choose(ctx, "Which project is "+oauth.Clean(dir)+"?", "It will use that project's connections.", options)
	return id, asked(err)
}

func completeProjects(g *globals) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var ids []cobra.Completion
		if ws, err := g.completing(cmd); err == nil {
			list, _ := ws.registry.List()
			for _, b := range list {
				if strings.HasPrefix(b.ID, prefix) {
					ids = append(ids, cobra.CompletionWithDesc(b.ID, oauth.Clean(b.Label)))
				}
			}
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

func newProjectUnlinkCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "unlink",
		Short: "Take this folder from its project",
		Long: `Take this folder from its project. The project and its connections stay, and can
be linked again; 'apiauth reset --project' removes them.`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runProjectUnlink(g) },
	}
}

func runProjectUnlink(g *globals) error {
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	dir := ws.dir
	if path, found, err := project.Find(ws.dir, g.app.Home); err == nil && found {
		dir = filepath.Dir(path)
	}
	id := ""
	if b, err := ws.registry.Resolve(dir); err == nil {
		id = b.ID
	}
	err = ws.registry.Unlink(dir)
	var unbound *project.UnboundError
	if errors.As(err, &unbound) {
		return failf(exitUsage, "'apiauth project show --all' lists the projects and their folders", "%s is not bound to a project", unbound.Dir)
	}
	if err != nil {
		return err
	}
	ws.say("%s belongs to no project now.", dir)
	if id != "" {
		ws.say("'apiauth project link --project %s' takes that back.", id)
	}
	return nil
}
