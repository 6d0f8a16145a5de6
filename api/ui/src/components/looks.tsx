import { messages, language, type Language } from "../i18n";
import { chooseLanguage } from "../session";
import { setTheme, theme, type Theme } from "../theme";
import { Segments } from "./button";
import { failed } from "./toast";

const text = messages(
  { language: "Language", theme: "Colours", system: "System", light: "Light", dark: "Dark" },
  { language: "언어", theme: "화면 색", system: "시스템", light: "밝게", dark: "어둡게" },
);

/** Language and theme of this browser. */
export function Looks() {
  return (
    <div class="choices">
      <Segments<Language>
        label={text().language}
        value={language.value}
        onChange={(chosen) => void chooseLanguage(chosen).catch(failed)}
        options={[
          { value: "en", label: "English" },
          { value: "ko", label: "한국어" },
        ]}
      />
      <Segments<Theme>
        label={text().theme}
        value={theme.value}
        onChange={setTheme}
        options={[
          { value: "system", label: text().system },
          { value: "light", label: text().light },
          { value: "dark", label: text().dark },
        ]}
      />
    </div>
  );
}
