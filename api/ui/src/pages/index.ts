/**
 * All pages: where they are, who may see them, how they are loaded. A page is one folder or file of its own, with its
 * own texts and styles, and is loaded when somebody goes there.
 */
import type { ComponentType } from "preact";
import type { Role } from "../api/schema";
import type { IconName } from "../components/icons";
import { nav } from "../i18n/nav";

export type PageProps = { params: readonly string[] };

export type Page = {
  /** First part of the path; "" is the start. What follows comes as `params`. */
  path: string;
  title: () => string;
  icon: IconName;
  role: Role;
  /** Left out of the navigation. */
  hidden?: true;
  load: () => Promise<{ default: ComponentType<PageProps> }>;
};

export const PAGES: readonly Page[] = [
  { path: "", title: () => nav().wall, icon: "wall", role: "viewer", load: () => import("./wall") },
  { path: "events", title: () => nav().events, icon: "events", role: "viewer", load: () => import("./events") },
  { path: "cameras", title: () => nav().cameras, icon: "cameras", role: "viewer", load: () => import("./cameras") },
  { path: "statistics", title: () => nav().statistics, icon: "statistics", role: "viewer", load: () => import("./statistics") },
  { path: "rules", title: () => nav().rules, icon: "rules", role: "admin", load: () => import("./rules") },
  { path: "system", title: () => nav().system, icon: "system", role: "admin", load: () => import("./system") },
  { path: "users", title: () => nav().users, icon: "users", role: "admin", load: () => import("./users") },
  { path: "account", title: () => nav().account, icon: "person", role: "viewer", hidden: true, load: () => import("./account") },
];
