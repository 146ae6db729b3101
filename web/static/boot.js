// The content security policy forbids inline script; this starts the page.
import init from "./web.js";

init().catch((error) => {
  console.error(error);
  const line = document.createElement("p");
  line.className = "bare";
  line.setAttribute("role", "alert");
  line.textContent = "The page could not start. It needs a browser with WebAssembly; loading it again may help.";
  document.body.append(line);
});
