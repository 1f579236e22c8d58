/** The API's description, drawn by Swagger UI. */

import { get } from "./api.js";
import { authorization } from "./key.js";

const spec = await get("/openapi.json");
globalThis.SwaggerUIBundle({
  spec,
  dom_id: "#swagger",
  deepLinking: true,
  validatorUrl: null,
  requestInterceptor: (request) => Object.assign(request, { headers: { ...request.headers, ...authorization() } }),
});
